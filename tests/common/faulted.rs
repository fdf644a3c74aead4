//! What a server must do while its log is faulted, and after.

use super::raw::encode;
use super::{Raw, Reply, Server, eventually};
use std::time::Duration;

/// Long enough for a reply that nothing holds back.
pub const A_MOMENT: Duration = Duration::from_millis(300);

/// Writers are told by Redis's words, readers and PING served on other connections, INFO says it.
/// The server holds `a` with the value 1, and the fault shows in one of the words `errors`.
#[track_caller]
pub fn refuses_writes_and_serves_readers(server: &Server, errors: &[&str]) {
    eventually("the fault shows in INFO", || server.info("aof_last_write_status") == "err");
    let fault = server.info("aof_fault");
    assert!(errors.contains(&fault.as_str()), "{fault}");
    let mut other = server.raw();
    let refusal = other.run("SET refused 1").error();
    let error = refusal.strip_prefix("MISCONF Errors writing to the AOF file: ");
    assert!(error.is_some_and(|error| errors.contains(&error)), "{refusal}");
    assert_eq!(other.run("GET a"), Reply::Bulk(b"1".to_vec()));
    assert_eq!(other.run("PING"), Reply::Simple(b"PONG".to_vec()));
}

/// Writes are taken with nothing restarted, and nothing is left of the fault.
#[track_caller]
pub fn takes_writes_again(server: &Server, client: &mut Raw) {
    eventually("writes are taken again", || client.run("SET later 1").is_ok());
    assert_eq!(server.info("aof_fault"), "");
    assert_eq!(server.info("aof_last_write_status"), "ok");
}

/// A log that takes no more while `take` is in force and does again after `give`: what was under
/// way waits, what comes is refused, and all that was acknowledged is there after a kill.
#[track_caller]
pub fn survives_a_log_that_takes_no_more(
    server: &mut Server,
    errors: &[&str],
    take: impl Fn(&Server),
    give: impl Fn(&Server),
) {
    let mut client = server.raw();
    assert!(client.run("SET a 1").is_ok());
    take(server);
    // More than what a last page may have left.
    let value = vec![b'x'; 100_000];
    let mut withheld = server.raw();
    withheld.send(&encode(&[b"SET".as_slice(), b"b", &value]));
    refuses_writes_and_serves_readers(server, errors);
    assert!(withheld.is_silent_for(A_MOMENT), "acknowledged though it stands nowhere");
    server.wait_log("new writes are refused");
    give(server);
    assert!(withheld.reply().is_ok());
    takes_writes_again(server, &mut client);
    server.kill9();
    server.restart();
    assert_eq!(server.run("STRLEN b"), Reply::Int(100_000));
    assert_eq!(server.run("EXISTS a later refused"), Reply::Int(2));
}

/// When the server has said `text`: milliseconds of the day, by its own clock.
pub fn times_of(server: &Server, text: &str) -> Vec<u64> {
    let log = server.log_text();
    let lines = log.lines().filter(|line| line.contains(text));
    let time = |line: &str| {
        let of_day = line.split(' ').find(|word| word.contains(':') && word.contains('.'));
        let of_day = of_day.unwrap_or_else(|| panic!("a time in {line}"));
        let parts = of_day.split([':', '.']).map(|part| part.parse::<u64>().expect("a number"));
        parts.zip([3_600_000, 60_000, 1_000, 1]).map(|(part, ms)| part * ms).sum()
    };
    lines.map(time).collect()
}

/// The time between two of [`times_of`], across a midnight too.
pub fn ms_between(earlier: u64, later: u64) -> u64 {
    const DAY_MS: u64 = 86_400_000;
    (later + DAY_MS - earlier) % DAY_MS
}
