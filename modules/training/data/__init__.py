"""Training data: data sets and texts on disk, row formats, chats, and the examples created from them."""
