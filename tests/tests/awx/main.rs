//! The AWX of the tests itself: whether it answers as a real one was recorded to, and does what else tests ask of it.

mod alike;
mod captures;
mod client;
mod server;
mod story;
