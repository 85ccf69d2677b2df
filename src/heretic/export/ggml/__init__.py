"""ggml's own quantiser, importance matrices, and the types that llama.cpp chooses for a file."""
