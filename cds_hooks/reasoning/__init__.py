"""The thought: content loading and checking, terminology, expressions, evaluation, trace."""
