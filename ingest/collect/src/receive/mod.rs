//! The ways in. They look alike and stay apart until something really is the same.
