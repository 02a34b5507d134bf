"""The memory: issued cards, feedback, used tokens. SQL, and only here; the rest knows `port` alone.

    port          what the service asks of a memory; one that remembers nothing
    tables        what is stored
    database      connections to SQLite or PostgreSQL; every failure becomes a StorageError
    schema        migrations, under a lock, before the port opens
    secret        the key of the hashes
    issued        cards on their way to the database: a bounded queue and its thread
    memory        the memory of a running server
    replay        the replay guard that all workers and instances share
    housekeeping  what is deleted, and when
    tally         what the report counts
"""
