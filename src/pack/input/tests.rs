//! Layers of networks that are built here, and arrays.
