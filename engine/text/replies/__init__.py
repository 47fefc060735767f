"""What models write around their answers: thoughts and tool calls, each family in marks of its own."""
