//! The provider on a real Docker and a real Podman: every test runs on both.
//!
//! Both engines must be there, with the images `localhost/broker-testhost:{tiny,debian,exits,health,health-late,ports}`. Where one is
//! missing the tests fail and say which.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

/// Makes a test on each engine out of functions that take a [`Lab`](support::Lab).
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {
        mod docker {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::support::Lab::docker()).await;
            })+
        }
        mod podman {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test(crate::support::Lab::podman()).await;
            })+
        }
    };
}

mod actions;
mod checkout;
mod failures;
mod files;
mod pull;
mod release;
mod requests;
mod session;
mod support;
