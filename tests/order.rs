//! The order of system calls, as a tracer sees it: nothing that reveals a write leaves before what
//! it promises.
//!
//! Each write has a mark of its own in it. A client's rounds are told apart by an ECHO behind each:
//! it is sent when the round's replies have come, touches no key, and so promises nothing itself.
//! For everything sent on the client's socket during a round, the write(2) that put the round's
//! marks into the log must have returned before, and where the promise says durable, an fdatasync
//! begun after that as well: in each file that a crash at that moment could leave under the log's
//! name, which the rename gives and only an fsync of the directory makes certain.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::process::KillOnPanic;
use common::trace::{Kept, Trace, Traced, echo_reply, marks_in};
use common::{FaultySystem, Launch, Raw, Reply};

const CLIENTS: usize = 4;
const ROUNDS: usize = 40;

/// What a client did between two echoes.
struct Round {
    client: String,
    echo: String,
    marks: Vec<String>,
    /// How well all of `marks` must be kept at each send of the round; `None` for not at all.
    kept: Option<Kept>,
    /// Only sends with this in them promise anything.
    only: Option<&'static str>,
}

/// A client that notes what it does.
struct Client<'a> {
    raw: Raw,
    name: String,
    rounds: &'a Mutex<Vec<Round>>,
    count: usize,
}

impl<'a> Client<'a> {
    fn new(traced: &Traced, name: &str, rounds: &'a Mutex<Vec<Round>>) -> Client<'a> {
        let mut client =
            Client { raw: traced.server.raw(), name: name.to_owned(), rounds, count: 0 };
        // So that its socket is known whatever comes next.
        client.end_round(None, &[]);
        client
    }

    /// The mark for the next write.
    fn mark(&mut self) -> String {
        self.count += 1;
        format!("mark-{}-{}-", self.name, self.count)
    }

    /// Ends a round whose replies promise that `marks` are so well kept.
    fn end_round(&mut self, kept: Option<Kept>, marks: &[String]) {
        self.end_round_of(kept, marks, None);
    }

    /// The same, where only sends with `only` in them promise anything.
    fn end_round_of(&mut self, kept: Option<Kept>, marks: &[String], only: Option<&'static str>) {
        self.count += 1;
        let echo = format!("echo-{}-{}", self.name, self.count);
        assert_eq!(self.raw.command(&["ECHO", &echo]), Reply::Bulk(echo.clone().into_bytes()));
        let (client, marks) = (self.name.clone(), marks.to_vec());
        let round = Round { client, echo, marks, kept, only };
        self.rounds.lock().expect("no client panics").push(round);
    }

    /// Writes a mark: as a key of its own, so that a rewritten file has it too, and as the value of
    /// a key that all clients share.
    fn set(&mut self, kept: Option<Kept>) -> String {
        let mark = self.mark();
        assert!(self.raw.command(&["MSET", &mark, "1", "shared", &mark]).is_ok());
        self.end_round(kept, std::slice::from_ref(&mark));
        mark
    }

    /// The same in a transaction, whose first replies promise nothing.
    fn transaction(&mut self, kept: Option<Kept>) {
        let mark = self.mark();
        self.raw.send(
            format!("MULTI\r\nSET {mark} 1\r\nSET shared {mark}\r\nGET shared\r\nEXEC\r\n")
                .as_bytes(),
        );
        for _ in 0..4 {
            assert!(!self.raw.reply().is_error());
        }
        assert_eq!(self.raw.reply().items().len(), 3);
        self.end_round_of(kept, &[mark], Some("*3\\r\\n"));
    }

    /// Reads what somebody, most likely another, has written last.
    fn read(&mut self, kept: Option<Kept>) {
        let seen = self.raw.run("GET shared");
        let marks = if let Reply::Bulk(mark) = seen {
            vec![String::from_utf8(mark).expect("a mark")]
        } else {
            Vec::new()
        };
        self.end_round(kept, &marks);
    }
}

/// Looks for a send that left before what it promises. `content` is how well each mark must be kept
/// that is shown to anybody, in whatever reply or line.
fn judge(trace: &Trace, rounds: &[Round], content: Option<Kept>) -> Result<(), String> {
    let mut clients: Vec<&str> = rounds.iter().map(|round| round.client.as_str()).collect();
    clients.sort_unstable();
    clients.dedup();
    let mut judged = 0;
    for client in clients {
        let mut own = rounds.iter().filter(|round| round.client == client).peekable();
        let first = own.peek().ok_or("a client without rounds")?;
        let mut sends = trace.sends_to(&first.echo)?.into_iter();
        for round in own {
            let end = echo_reply(&round.echo);
            loop {
                let send = sends.next().ok_or_else(|| format!("{} was not sent", round.echo))?;
                if send.arguments.contains(&end) {
                    break;
                }
                let promises = round.only.is_none_or(|only| send.arguments.contains(only));
                let Some(kept) = round.kept.filter(|_| promises) else { continue };
                judged += 1;
                for mark in &round.marks {
                    trace
                        .is_kept(mark, kept, send.entered)
                        .map_err(|problem| format!("sent too early: {problem}\n{send:?}"))?;
                }
            }
        }
    }
    if let Some(kept) = content {
        for send in trace.sends() {
            for mark in marks_in(&send.arguments) {
                judged += 1;
                trace
                    .is_kept(&mark, kept, send.entered)
                    .map_err(|problem| format!("shown too early: {problem}\n{send:?}"))?;
            }
        }
    }
    let promising = rounds.iter().filter(|round| round.kept.is_some()).count();
    if judged < promising {
        return Err(format!("only {judged} sends were judged in {promising} rounds"));
    }
    Ok(())
}

fn start(what: &str, policy: &str) -> Option<Traced> {
    Traced::start(what, Launch::new().flag("appendfsync", policy), None)
}

fn promise(policy: &str) -> Option<Kept> {
    Some(if policy == "always" { Kept::Durable } else { Kept::Written })
}

/// All kinds of clients at once, a rewrite among them: writers, transactions, readers of what the
/// others write, and a monitor.
fn mixed_load(what: &str, policy: &str) -> Option<(Trace, Vec<Round>)> {
    mixed_load_on(start(what, policy)?, policy)
}

fn mixed_load_on(traced: Traced, policy: &str) -> Option<(Trace, Vec<Round>)> {
    let rounds = Mutex::new(Vec::new());
    let mut monitor = traced.server.raw();
    assert!(monitor.run("MONITOR").is_ok());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (traced, rounds) = (&traced, &rounds);
            scope.spawn(move || {
                let mut client = Client::new(traced, &format!("c{number}"), rounds);
                for at in 0..ROUNDS {
                    match (number + at) % 4 {
                        0 => client.transaction(promise(policy)),
                        1 => client.read(promise(policy)),
                        _ => drop(client.set(promise(policy))),
                    }
                    if number == 0 && at == ROUNDS / 4 {
                        client.raw.run("BGREWRITEAOF");
                        client.end_round(None, &[]);
                    }
                }
            });
        }
    });
    // The rewrite's end is not to be missed, and what is written then goes to the new file.
    common::eventually("the rewrite ends", || traced.server.info("aof_rewrite_in_progress") == "0");
    let mut last = Client::new(&traced, "last", &rounds);
    last.set(promise(policy));
    // It has been shown the end.
    while !monitor.reply().text().contains("\"mark-last-") {}
    let trace = traced.finish();
    Some((trace, rounds.into_inner().expect("no client panics")))
}

#[test]
fn nothing_reveals_a_write_before_it_is_kept_as_promised() {
    let what = "nothing_reveals_a_write_before_it_is_kept_as_promised";
    for policy in ["always", "everysec", "no"] {
        let Some((trace, rounds)) = mixed_load(what, policy) else { return };
        assert_eq!(trace.logs(), 2, "there was a rewrite");
        judge(&trace, &rounds, promise(policy))
            .unwrap_or_else(|problem| panic!("{policy}: {problem}"));
        eprintln!("{policy}: {} syncs, {} sends", trace.log_syncs(), trace.sends().count());
    }
}

#[test]
fn the_order_is_the_same_while_the_loop_spins() {
    let what = "the_order_is_the_same_while_the_loop_spins";
    let launch = Launch::new().flag("appendfsync", "always").flag("busy-poll-usec", "200");
    let Some(traced) = Traced::start(what, launch, None) else { return };
    let Some((trace, rounds)) = mixed_load_on(traced, "always") else { return };
    judge(&trace, &rounds, promise("always")).unwrap_or_else(|problem| panic!("{problem}"));
}

/// The judge must see the difference between what the policies promise.
#[test]
fn the_judge_sees_a_sync_that_is_missing() {
    let what = "the_judge_sees_a_sync_that_is_missing";
    let Some(traced) = start(what, "no") else { return };
    let rounds = Mutex::new(Vec::new());
    let mut client = Client::new(&traced, "c", &rounds);
    for _ in 0..5 {
        client.set(Some(Kept::Written));
    }
    let trace = traced.finish();
    let mut rounds = rounds.into_inner().expect("no client panics");
    judge(&trace, &rounds, Some(Kept::Written)).expect("written before the reply");
    let marked = rounds.iter_mut().filter(|round| !round.marks.is_empty());
    marked.for_each(|round| round.kept = Some(Kept::Durable));
    judge(&trace, &rounds, None).expect_err("never synced");
}

/// Whatever the policy, WAITAOF answers when the caller's writes are durable, and has that begin by
/// itself: nothing else would here, under `no`.
#[test]
fn waitaof_answers_behind_a_sync_that_covers_the_callers_writes() {
    let what = "waitaof_answers_behind_a_sync_that_covers_the_callers_writes";
    for policy in ["always", "everysec", "no"] {
        // In memory: how long it takes does not depend on the disk.
        let Ok(dir) = tempfile::TempDir::with_prefix_in("server_async-test-", "/dev/shm") else {
            return common::skip(what, "no /dev/shm");
        };
        let launch = Launch::new().flag("appendfsync", policy);
        let Some(traced) = Traced::start(what, launch, Some(dir)) else { return };
        let rounds = Mutex::new(Vec::new());
        let begun = Instant::now();
        const WAITS: usize = 20;
        std::thread::scope(|scope| {
            for number in 0..2 {
                let (traced, rounds) = (&traced, &rounds);
                scope.spawn(move || {
                    let mut client = Client::new(traced, &format!("c{number}"), rounds);
                    for _ in 0..WAITS {
                        let mark = client.set(promise(policy));
                        let acks = Reply::Array(vec![Reply::Int(1), Reply::Int(0)]);
                        assert_eq!(client.raw.run("WAITAOF 1 0 0"), acks);
                        client.end_round(Some(Kept::Durable), &[mark]);
                    }
                });
            }
        });
        // The syncs of everysec come half a second after a write: it has not waited for those.
        assert!(begun.elapsed().as_millis() < 500 * WAITS as u128, "{policy}: not at once");
        let trace = traced.finish();
        let rounds = rounds.into_inner().expect("no client panics");
        judge(&trace, &rounds, None).unwrap_or_else(|problem| panic!("{policy}: {problem}"));
    }
}

/// A log that is being turned on is on when its first file is on disk under its name; one that is
/// being turned off has brought everything there.
#[test]
fn appendonly_is_answered_when_all_is_durable() {
    let what = "appendonly_is_answered_when_all_is_durable";
    let launch = Launch::new().flag("appendfsync", "no").flag("appendonly", "no");
    let Some(traced) = Traced::start(what, launch, None) else { return };
    let rounds = Mutex::new(Vec::new());
    let mut client = Client::new(&traced, "c", &rounds);
    let mut marks: Vec<String> = (0..10).map(|_| client.set(None)).collect();
    for value in ["yes", "no", "yes"] {
        let reply = client.raw.command(&["CONFIG", "SET", "appendonly", value]);
        assert!(reply.is_ok(), "{reply:?}");
        client.end_round(Some(Kept::Durable), &marks);
        if value == "yes" {
            let written = (0..5).map(|_| client.set(Some(Kept::Written)));
            marks.extend(written.collect::<Vec<_>>());
        }
    }
    let trace = traced.finish();
    assert_eq!(trace.logs(), 2, "each `yes` writes a file");
    judge(&trace, &rounds.into_inner().expect("no client panics"), None).expect("in order");
}

/// A log is turned off though clients go on writing without a pause.
#[test]
fn appendonly_no_is_answered_under_load() {
    for policy in ["always", "everysec", "no"] {
        let server = Launch::new().flag("appendfsync", policy).start();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Without the server the others end.
            let _guard = KillOnPanic(server.pid());
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = server.raw();
                    let burst = b"INCR counter\r\n".repeat(100);
                    while !over.load(Ordering::Relaxed) {
                        client.send(&burst);
                        for _ in 0..100 {
                            assert!(matches!(client.reply(), Reply::Int(_)));
                        }
                    }
                });
            }
            let processed = || server.info("total_commands_processed").parse::<u64>();
            common::eventually("the load runs", || processed().is_ok_and(|count| count > 1_000));
            let mut operator = server.raw();
            operator.send(b"CONFIG SET appendonly no\r\n");
            let reply = operator.try_frame().map(|frame| frame.reply);
            over.store(true, Ordering::Relaxed);
            assert!(reply.is_ok_and(|reply| reply.is_ok()), "{policy}: not answered");
        });
        assert_eq!(server.info("aof_enabled"), "0");
    }
}

/// For a reply that is under way when the policy changes, the stricter of both counts.
#[test]
fn a_change_of_policy_never_loosens_a_reply_under_way() {
    let what = "a_change_of_policy_never_loosens_a_reply_under_way";
    for (before, after) in [("everysec", "always"), ("no", "always"), ("always", "no")] {
        let Some(traced) = start(what, before) else { return };
        let rounds = Mutex::new(Vec::new());
        let mut client = Client::new(&traced, "c", &rounds);
        for _ in 0..10 {
            let mark = client.mark();
            // In one segment: the reply to the first is under way when the second is run.
            let line = format!("SET {mark} 1\r\nCONFIG SET appendfsync {after}\r\n");
            client.raw.send(line.as_bytes());
            assert!(client.raw.reply().is_ok() && client.raw.reply().is_ok());
            client.end_round(Some(Kept::Durable), &[mark]);
            client.set(promise(after));
            assert!(client.raw.command(&["CONFIG", "SET", "appendfsync", before]).is_ok());
            client.end_round(None, &[]);
        }
        let trace = traced.finish();
        judge(&trace, &rounds.into_inner().expect("no client panics"), None)
            .unwrap_or_else(|problem| panic!("{before} to {after}: {problem}"));
    }
}

/// After a sync that failed, only a file that is new on the disk, and has its name there, lets
/// replies go.
#[test]
fn a_failed_sync_is_made_up_for_before_anything_is_answered() {
    let what = "a_failed_sync_is_made_up_for_before_anything_is_answered";
    let folder = tempfile::tempdir().expect("a directory");
    let system = FaultySystem::build(folder.path());
    let launch = system.under(Launch::new().flag("appendfsync", "always"));
    let Some(traced) = Traced::start(what, launch, None) else { return };
    let rounds = Mutex::new(Vec::new());
    let mut monitor = traced.server.raw();
    assert!(monitor.run("MONITOR").is_ok());
    let mut client = Client::new(&traced, "c", &rounds);
    let mut other = Client::new(&traced, "d", &rounds);
    client.set(Some(Kept::Durable));
    system.fail_sync();
    // The reply comes when the log has healed.
    client.set(Some(Kept::Durable));
    assert!(!system.fault_is_pending(), "the sync has failed");
    common::eventually("the log is whole again", || {
        traced.server.info("aof_last_write_status") == "ok"
    });
    other.read(Some(Kept::Durable));
    let last = other.set(Some(Kept::Durable));
    while !monitor.reply().text().contains(&last) {}
    let trace = traced.finish();
    assert_eq!(trace.logs(), 2, "a fresh file took the place of the first");
    let rounds = rounds.into_inner().expect("no client panics");
    judge(&trace, &rounds, Some(Kept::Durable)).expect("in order");
}

/// SHUTDOWN ends the process, and by that the connection, when everything is on disk, the closing
/// seals too.
#[test]
fn a_shutdown_ends_behind_its_last_sync() {
    let what = "a_shutdown_ends_behind_its_last_sync";
    for policy in ["always", "everysec", "no"] {
        let Some(traced) = start(what, policy) else { return };
        let rounds = Mutex::new(Vec::new());
        let mut client = Client::new(&traced, "c", &rounds);
        client.set(promise(policy));
        let mut killer = traced.server.raw();
        let mark = client.mark();
        killer.send(format!("SET {mark} 1\r\nSHUTDOWN\r\n").as_bytes());
        assert!(killer.reply().is_ok());
        assert!(killer.is_closed(), "and no error");
        let trace = traced.finish();
        judge(&trace, &rounds.into_inner().expect("no client panics"), promise(policy))
            .unwrap_or_else(|problem| panic!("{policy}: {problem}"));
        trace.ends_durable().unwrap_or_else(|problem| panic!("{policy}: {problem}"));
        let end = trace.calls.iter().map(|call| call.entered).max().expect("calls");
        trace.is_kept(&mark, Kept::Durable, end + 1).expect("the last write");
    }
}

/// With a disk that is quick, `everysec` holds nothing back: each reply leaves in the turn of its
/// command, before the loop sleeps again; and many writes share a sync.
#[test]
fn everysec_holds_no_reply_while_the_disk_is_quick() {
    let what = "everysec_holds_no_reply_while_the_disk_is_quick";
    // In memory: no other user of the disk can make it slow.
    let Ok(dir) = tempfile::TempDir::with_prefix_in("server_async-test-", "/dev/shm") else {
        return common::skip(what, "no /dev/shm");
    };
    let launch = Launch::new().flag("appendfsync", "everysec");
    let Some(traced) = Traced::start(what, launch, Some(dir)) else { return };
    let rounds = Mutex::new(Vec::new());
    let mut client = Client::new(&traced, "c", &rounds);
    // Past three of its syncs, so past the promise of the first write as well.
    let synced = || traced.server.info("aof_offset_durable").parse::<u64>().expect("an offset");
    let mut writes = 0;
    let mut syncs_seen = 0;
    let mut last = synced();
    while syncs_seen < 3 {
        client.set(Some(Kept::Written));
        writes += 1;
        let durable = synced();
        syncs_seen += usize::from(durable != last);
        last = durable;
    }
    assert_eq!(traced.server.info("aof_delayed_fsync"), "0");
    let trace = traced.finish();
    let rounds = rounds.into_inner().expect("no client panics");
    judge(&trace, &rounds, Some(Kept::Written)).expect("in order");
    assert!(trace.log_syncs() < writes, "{} syncs of {writes} writes", trace.log_syncs());
    // Between the write of a mark and the echo behind it the loop sleeps once: for the echo.
    let mut sleeps = 0;
    let mut waits_for_reply = false;
    for call in trace.calls.iter().filter(|call| call.thread == trace.main_thread) {
        if call.name.starts_with("pwrite") && !marks_in(&call.arguments).is_empty() {
            waits_for_reply = true;
        } else if waits_for_reply && call.is_send() {
            waits_for_reply = false;
        } else if call.name.starts_with("epoll") {
            assert!(!waits_for_reply, "slept on a reply: {call:?}");
            sleeps += 1;
        }
    }
    assert!(sleeps >= writes, "the loop's sleeps are in the trace");
}
