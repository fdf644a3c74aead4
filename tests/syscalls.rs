//! What the loop's thread leaves to others: whatever may have to wait for a disk.

mod common;

use common::trace::{Call, Trace, Traced};
use common::{FaultySystem, Launch, Reply};

const LOG: &str = "appendonly.aof";
const CLIENTS: usize = 3;
const ROUNDS: usize = 60;

/// Whether a call may take as long as the disk likes. Closing and removing count: where it is the
/// last of a large file, its blocks are freed.
fn waits_for_the_disk(call: &Call) -> bool {
    match call.name.as_str() {
        "fdatasync" | "fsync" | "sync" | "syncfs" | "ftruncate" => true,
        "sync_file_range" => call.arguments.contains("WAIT"),
        "close" => call.target.contains(LOG),
        name => {
            (name.starts_with("rename") || name.starts_with("unlink"))
                && call.arguments.contains(LOG)
        }
    }
}

/// The calls of the loop's thread between the first send to a client and the last.
fn while_serving(trace: &Trace) -> Vec<&Call> {
    let sends: Vec<usize> = trace.sends().map(|call| call.entered).collect();
    let (first, last) = (sends[0], sends[sends.len() - 1]);
    let calls = trace.calls.iter().filter(|call| call.thread == trace.main_thread);
    calls.filter(|call| (first..=last).contains(&call.entered)).collect()
}

/// Writers, readers and transactions, while the log is rewritten, given up and rewritten again,
/// heals, is switched off and on and changes its policy.
#[test]
fn the_loop_never_waits_for_the_disk_while_it_serves() {
    let what = "the_loop_never_waits_for_the_disk_while_it_serves";
    for policy in ["always", "everysec", "no"] {
        let folder = tempfile::tempdir().expect("a directory");
        let system = FaultySystem::build(folder.path());
        let launch = system.under(Launch::new().flag("appendfsync", policy));
        let Some(traced) = Traced::start(what, launch, None) else { return };
        let server = &traced.server;
        let rewritten = || server.info("aof_rewrite_in_progress") == "0";
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                scope.spawn(move || {
                    let mut client = server.raw();
                    let value = "x".repeat(2_000);
                    for at in 0..ROUNDS {
                        // Refused while the log heals; all else must succeed.
                        let reply = client.command(&["SET", &format!("{number}-{at}"), &value]);
                        assert!(reply.is_ok() || reply.error().starts_with("MISCONF"), "{reply:?}");
                        client.send(b"MULTI\r\nINCR counter\r\nGET counter\r\nEXEC\r\n");
                        for _ in 0..4 {
                            client.reply();
                        }
                    }
                });
            }
            let mut operator = server.raw();
            operator.run("BGREWRITEAOF");
            common::eventually("a rewrite ends", rewritten);
            // One that is given up on the way: its file goes too.
            operator.run("BGREWRITEAOF");
            assert!(operator.run("CONFIG SET appendonly no").is_ok());
            assert!(operator.run("CONFIG SET appendonly yes").is_ok());
        });
        let mut operator = server.raw();
        for other in ["always", "no", "everysec"] {
            assert!(operator.command(&["CONFIG", "SET", "appendfsync", other]).is_ok());
            assert!(operator.command(&["SET", "key", other]).is_ok());
        }
        system.fail_sync();
        assert!(operator.run("SET key last").is_ok());
        operator.run("WAITAOF 1 0 0");
        common::eventually("the log is whole again", || {
            !system.fault_is_pending() && server.info("aof_last_write_status") == "ok"
        });
        assert!(operator.run("SET key healed").is_ok());
        assert_eq!(operator.run("PING"), Reply::Simple(b"PONG".to_vec()));
        let trace = traced.finish();
        assert!(trace.logs() >= 4, "{policy}: {} logs", trace.logs());
        let bad: Vec<&Call> =
            while_serving(&trace).into_iter().filter(|call| waits_for_the_disk(call)).collect();
        assert!(bad.is_empty(), "{policy}: the loop waited for the disk: {bad:#?}");
        // Others did, and the trace shows it.
        let elsewhere = trace.calls.iter().filter(|call| call.thread != trace.main_thread);
        let names: Vec<&str> =
            elsewhere.filter(|call| waits_for_the_disk(call)).map(|c| c.name.as_str()).collect();
        // A rename is renameat or renameat2, as the C library or the one put before it likes.
        for name in ["fdatasync", "fsync", "rename", "unlinkat", "close"] {
            let is_there = names.iter().any(|found| found.starts_with(name));
            assert!(is_there, "{policy}: no {name} in the trace");
        }
    }
}
