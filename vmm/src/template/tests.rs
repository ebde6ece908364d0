//! What is found, made, removed, and what of it survives whom.
