//! The order of system calls, as a tracer sees it: no reply before what it promises.
//!
//! Every client sends one command at a time, each with a number in it. For the reply to number n
//! on a socket, the write(2) that put n into the log must have returned before, and under
//! `always` an fdatasync of the log, begun after that write, as well.

mod common;

use std::collections::HashMap;
use std::ffi::OsString;

use common::{Launch, Raw, Reply, skip_without};

const CLIENTS: usize = 4;
const COMMANDS: usize = 60;

/// One system call of the trace.
#[derive(Debug)]
struct Call {
    /// Place in the trace where it was entered, and where it returned.
    entered: usize,
    returned: usize,
    name: String,
    /// What the descriptor of the first argument stands for.
    target: String,
    arguments: String,
    result: String,
}

/// Reads the output of `strace -f -y`: one line a call, or two where others came in between.
fn read_trace(text: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<String, usize> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(index) = open.remove(thread) {
                calls[index].returned = at;
                let tail = rest.split_once("resumed>").map_or("", |(_, tail)| tail);
                calls[index].result = result_of(tail);
                calls[index].arguments.push_str(tail);
            }
            continue;
        }
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        let target = arguments
            .split_once('<')
            .and_then(|(_, path)| path.split_once('>'))
            .map_or(String::new(), |(path, _)| path.to_owned());
        let unfinished = arguments.ends_with("<unfinished ...>");
        if unfinished {
            open.insert(thread.to_owned(), calls.len());
        }
        calls.push(Call {
            entered: at,
            returned: if unfinished { usize::MAX } else { at },
            name: name.to_owned(),
            target,
            arguments: arguments.to_owned(),
            result: if unfinished { String::new() } else { result_of(arguments) },
        });
    }
    calls
}

fn result_of(text: &str) -> String {
    text.rsplit_once(") = ")
        .or_else(|| text.rsplit_once(")  = "))
        .map_or(String::new(), |(_, r)| r.trim().to_owned())
}

/// What a client does in its turn, with a mark of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Set,
    Transaction,
    /// A read of what was written must not reveal it early either.
    SetAndGet,
}

impl Script {
    fn play(self, client: &mut Raw, mark: &str) {
        match self {
            Script::Set => assert!(client.command(&["SET", "key", mark]).is_ok()),
            Script::Transaction => {
                assert!(client.run("MULTI").is_ok());
                client.command(&["SET", "key", mark]);
                assert_eq!(client.run("EXEC").items().len(), 1);
            }
            Script::SetAndGet => {
                assert!(client.command(&["SET", mark, mark]).is_ok());
                let reply = client.command(&["GET", mark]);
                assert_eq!(reply, Reply::Bulk(mark.as_bytes().to_vec()));
            }
        }
    }

    /// Whether a send carries nothing but the replies to MULTI and to queued commands, which
    /// promise nothing.
    fn promises_nothing(self, send: &Call) -> bool {
        self == Script::Transaction
            && (send.arguments.contains("\"+OK") || send.arguments.contains("\"+QUEUED"))
            && !send.arguments.contains("*1\\r\\n")
    }
}

/// Runs the clients against a traced server; `None` after saying that `what` is skipped.
fn trace(what: &str, policy: &str, script: Script) -> Option<Vec<Call>> {
    let strace = skip_without(what, "strace")?;
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let words: [OsString; 9] = [
        strace.into(),
        "-f".into(),
        "-y".into(),
        "-s".into(),
        "65536".into(),
        "-o".into(),
        trace.clone().into(),
        "-e".into(),
        "trace=write,writev,pwrite64,pwritev,send,sendto,sendmsg,fdatasync,fsync".into(),
    ];
    let mut server =
        Launch::new().flag("appendonly", "yes").flag("appendfsync", policy).wrapper(&words).start();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.raw();
                for at in 0..COMMANDS {
                    script.play(&mut client, &format!("mark-{number}-{at}-"));
                    // A command that touches no key carries no promise; its reply names the
                    // client and the mark, so that the trace tells which reply was which.
                    client.command(&["ECHO", &format!("echo-{number}-{at}-")]);
                }
            });
        }
    });
    assert_eq!(server.stop().code(), Some(0));
    Some(read_trace(&std::fs::read_to_string(&trace).expect("the trace")))
}

/// Looks for a reply that left before `policy` allows it.
fn judge(calls: &[Call], policy: &str, script: Script) -> Result<(), String> {
    let succeeded = |call: &&Call| !call.result.starts_with('-') && call.returned != usize::MAX;
    let on_log = |name: &'static str| {
        let log = calls.iter().filter(|call| call.target.contains("appendonly"));
        log.filter(move |call| call.name.contains(name)).filter(succeeded)
    };
    let writes: Vec<&Call> = on_log("write").collect();
    let syncs: Vec<&Call> = on_log("sync").collect();
    let is_socket = |call: &&Call| call.target.contains("socket") || call.target.contains("TCP");
    let sends: Vec<&Call> = calls.iter().filter(is_socket).collect();
    if sends.len() < CLIENTS * COMMANDS {
        return Err("the trace shows too few replies".into());
    }
    for number in 0..CLIENTS {
        // The socket of each client is known by its echoes.
        let first_echo = format!("echo-{number}-0-");
        let echo = sends.iter().find(|call| call.arguments.contains(&first_echo));
        let socket = &echo.ok_or("an echo was not sent")?.target;
        let mut own = sends.iter().filter(|call| call.target == *socket);
        for at in 0..COMMANDS {
            let mark = format!("mark-{number}-{at}-");
            let written = writes
                .iter()
                .find(|call| call.arguments.contains(&mark))
                .ok_or_else(|| format!("{mark} is not in the log"))?;
            let synced = syncs.iter().find(|sync| sync.entered > written.returned);
            // What was sent on this socket up to this round's echo are the replies to the mark.
            let echo = format!("echo-{number}-{at}-");
            loop {
                let send = own.next().ok_or_else(|| format!("{echo} was not sent"))?;
                if send.arguments.contains(&echo) {
                    break;
                }
                if script.promises_nothing(send) {
                    continue;
                }
                if send.entered < written.returned {
                    return Err(format!("replied before it was written: {written:?}\n{send:?}"));
                }
                if policy == "always" {
                    let synced = synced.ok_or_else(|| format!("{mark} was never synced"))?;
                    if send.entered < synced.returned {
                        return Err(format!(
                            "replied before it was on disk: {written:?}\n{synced:?}\n{send:?}"
                        ));
                    }
                }
            }
        }
    }
    eprintln!(
        "{policy} {script:?}: {} writes and {} syncs of the log, {} sends to clients",
        writes.len(),
        syncs.len(),
        sends.len()
    );
    Ok(())
}

/// Traces and judges; false after saying that `what` is skipped.
#[track_caller]
fn check(what: &str, policy: &str, script: Script) -> bool {
    let Some(calls) = trace(what, policy, script) else { return false };
    judge(&calls, policy, script)
        .unwrap_or_else(|problem| panic!("{what} {policy} {script:?}: {problem}"));
    true
}

/// What `always` promises is not what `no` does: the judge must see the difference.
#[test]
fn the_judge_sees_a_sync_that_is_missing() {
    let what = "the_judge_sees_a_sync_that_is_missing";
    let Some(calls) = trace(what, "no", Script::Set) else { return };
    assert!(judge(&calls, "no", Script::Set).is_ok());
    assert!(judge(&calls, "always", Script::Set).is_err());
    // Nor does it take a log that is written after the replies.
    let mut late = calls;
    let end = late.iter().filter(|call| call.returned != usize::MAX).map(|c| c.returned).max();
    for call in late.iter_mut().filter(|call| call.target.contains("appendonly")) {
        call.returned = end.expect("calls");
    }
    assert!(judge(&late, "no", Script::Set).is_err());
}

#[test]
fn in_always_no_reply_leaves_before_its_sync() {
    check("in_always_no_reply_leaves_before_its_sync", "always", Script::Set);
}

#[test]
fn in_always_no_transaction_is_answered_before_its_sync() {
    check("in_always_no_transaction_is_answered_before_its_sync", "always", Script::Transaction);
}

#[test]
fn in_always_no_read_reveals_what_is_not_synced() {
    check("in_always_no_read_reveals_what_is_not_synced", "always", Script::SetAndGet);
}

#[test]
fn in_every_policy_the_log_is_written_before_the_reply() {
    let what = "in_every_policy_the_log_is_written_before_the_reply";
    for policy in ["everysec", "no"] {
        if !check(what, policy, Script::Set) || !check(what, policy, Script::Transaction) {
            return;
        }
    }
}
