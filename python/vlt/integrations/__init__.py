"""vlt inside other libraries, one module each; each needs its library, and vlt none of them."""
