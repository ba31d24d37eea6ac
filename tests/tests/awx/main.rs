//! The AWX of the tests itself: whether it answers as a real one was recorded to, and does what else tests ask of it.
#![expect(clippy::unwrap_used, reason = "a surprise is to end the test")]

mod alike;
mod captures;
mod client;
mod server;
mod story;
