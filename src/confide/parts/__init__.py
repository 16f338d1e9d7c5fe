"""Parts of an answer: JSON values, arguments of tool calls, sentences, lines, reasoning steps, and records of them."""
