//! What a server prints on its console, as it comes. Nova gives no stream, only all of it again and again.

use std::time::Duration;

use broker_core::LogRequest;
use broker_core::inventory::HostRecord;
use broker_core::provider::{ErrorKind, ProviderError};
use bytes::Bytes;

use crate::OpenStackProvider;
use crate::api::compute;
use crate::release::server_of;

/// How often somebody who follows a console is shown what is new.
const PERIOD: Duration = Duration::from_secs(1);

/// So much of the end of what was shown is looked for in what comes next.
const OVERLAP: usize = 512;

impl OpenStackProvider {
    pub(crate) async fn print_console(&self, host: &HostRecord, request: LogRequest) -> Result<(), ProviderError> {
        let client = self.client_of(host);
        let id = match server_of(host) {
            Some(id) => id.to_owned(),
            None => {
                let found = self.servers_of(&client, host.id).await?.into_iter().next();
                found.map(|server| server.id).ok_or_else(|| {
                    ProviderError::new(ErrorKind::NotFound, format!("there is no server of host `{}`", host.label()))
                })?
            }
        };
        let mut shown: Option<String> = None;
        loop {
            let text = match compute::console(&client, &id, None).await {
                Ok(text) => text,
                Err(error) if error.is_missing() && shown.is_some() => return Ok(()),
                Err(error) => return Err(error.at(format!("could not read the console of server `{}`", host.label()))),
            };
            let new = match &shown {
                Some(before) => added(before, &text),
                None => request.tail.map_or(&*text, |lines| last_lines(&text, lines)),
            };
            if !new.is_empty() && request.output.send(Bytes::copy_from_slice(new.as_bytes())).await.is_err() {
                return Ok(());
            }
            if !request.follow {
                return Ok(());
            }
            shown = Some(text);
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = request.output.closed() => return Ok(()),
            }
        }
    }
}

/// What a text has that was not in the one before. Nova keeps only so much, so that the beginning may have gone.
fn added<'a>(before: &str, text: &'a str) -> &'a str {
    if let Some(rest) = text.strip_prefix(before) {
        return rest;
    }
    let mut from = before.len().saturating_sub(OVERLAP);
    while !before.is_char_boundary(from) {
        from += 1;
    }
    let tail = &before[from..];
    match text.rfind(tail) {
        Some(at) => &text[at + tail.len()..],
        // Another boot, or too much at once.
        None => text,
    }
}

/// The last so many lines of a text.
fn last_lines(text: &str, lines: usize) -> &str {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let Some(nth) = lines.checked_sub(1) else { return "" };
    let start = body.rmatch_indices('\n').nth(nth).map_or(0, |(at, _)| at + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_shown() {
        assert_eq!(added("", "one\n"), "one\n");
        assert_eq!(added("one\n", "one\ntwo\n"), "two\n");
        assert_eq!(added("one\n", "one\n"), "");
        assert_eq!(added("gone\none\n", "another boot\n"), "another boot\n");
        let long = format!("begin\n{}end é\n", "x".repeat(2000));
        let cut = format!("{}end é\nnew\n", "x".repeat(900));
        assert_eq!(added(&long, &cut), "new\n");
    }

    #[test]
    fn the_last_lines() {
        for (text, lines, last) in
            [("a\nb\nc\n", 1, "c\n"), ("a\nb", 1, "b"), ("a\nb\n", 5, "a\nb\n"), ("a\n", 0, ""), ("", 3, "")]
        {
            assert_eq!(last_lines(text, lines), last);
        }
    }
}
