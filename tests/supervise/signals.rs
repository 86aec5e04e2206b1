//! Every signal, in every way to launch: what the agent gets of it, and what the caller sees.

use std::os::unix::process::ExitStatusExt;

use nix::libc;

use crate::common::Site;
use crate::{EXEC_MODE, Launched, MASK, SUPERVISE, is_gone, number, send_signal, state, wait_until};

/// A real-time signal, in the middle of their range.
const REAL_TIME: i32 = 40;

/// Reports every signal that it gets, and ends with 7 at signal 41. They wait until they are asked
/// for: Python would call a handler too late for one that comes right before pause(2).
const REPORTER: &str = r#"
import os, signal
asked = set(range(1, 65)) - {9, 19, 32, 33}
signal.pthread_sigmask(signal.SIG_BLOCK, asked)
os.write(1, b"%d\n" % os.getpid())
while True:
    number = signal.sigwait(asked)
    if number == 41:
        os._exit(7)
    os.write(1, b"got %d\n" % number)
"#;

/// Writes its number and waits, with every signal's own effect.
const SLEEPER: &[&str] = &["sh", "-c", "echo $$; exec sleep 60"];

#[test]
fn every_signal_sent_to_the_wrapper_reaches_the_agent_once() {
    let site = Site::with_two_agents().unfenced();
    for options in [EXEC_MODE, SUPERVISE, MASK] {
        let mut launched = Launched::agent(&site, options, &["python3", "-c", REPORTER]);
        let agent = number(&launched.line());
        assert_eq!(agent == launched.pid(), options == EXEC_MODE);
        for signal in [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGTSTP,
            libc::SIGCONT,
            libc::SIGWINCH,
            libc::SIGPIPE,
            libc::SIGALRM,
            REAL_TIME,
        ] {
            launched.send(signal);
            assert_eq!(launched.line(), format!("got {signal}"), "{options:?}");
        }
        // A second report of the last one would come before the end.
        launched.send(41);
        assert_eq!(launched.line(), "", "{options:?}");
        assert_eq!(launched.end().code(), Some(7), "{options:?}");
        wait_until("the agent is gone", || is_gone(agent));
    }
}

#[test]
fn an_agent_that_a_signal_ends_is_reported_as_128_and_its_number() {
    let site = Site::with_two_agents().unfenced();
    let signals = [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGSEGV,
        libc::SIGKILL,
        REAL_TIME,
    ];
    for options in [EXEC_MODE, SUPERVISE, MASK] {
        for signal in signals {
            // To the agent itself, and by way of the wrapper; KILL can't be passed on.
            for directly in [true, false] {
                if signal == libc::SIGKILL && !directly {
                    continue;
                }
                let mut launched = Launched::agent(&site, options, SLEEPER);
                let agent = number(&launched.line());
                send_signal(if directly { agent } else { launched.pid() }, signal).unwrap();
                let status = launched.end();
                let what = format!("{signal} {options:?} {directly}");
                if options == EXEC_MODE {
                    assert_eq!(status.signal(), Some(signal), "{what}");
                } else {
                    assert_eq!(status.code(), Some(128 + signal), "{what}");
                }
                assert!(!status.core_dumped());
                wait_until("the agent is gone", || is_gone(agent));
            }
        }
    }
}

#[test]
fn an_agent_dies_with_its_supervisor() {
    let site = Site::with_two_agents().unfenced();
    for options in [SUPERVISE, MASK] {
        let mut launched = Launched::agent(&site, options, SLEEPER);
        let agent = number(&launched.line());
        launched.send(libc::SIGKILL);
        assert_eq!(launched.end().signal(), Some(libc::SIGKILL));
        wait_until("the agent is gone", || is_gone(agent));
    }
}

#[test]
fn a_stopped_agent_stops_its_supervisor_and_both_go_on() {
    let site = Site::with_two_agents().unfenced();
    for options in [EXEC_MODE, SUPERVISE, MASK] {
        let mut launched = Launched::agent(&site, options, SLEEPER);
        let (wrapper, agent) = (launched.pid(), number(&launched.line()));
        for _ in 0..3 {
            send_signal(wrapper, libc::SIGTSTP).unwrap();
            wait_until("both are stopped", || state(wrapper) == Some('T') && state(agent) == Some('T'));
            send_signal(wrapper, libc::SIGCONT).unwrap();
            wait_until("both go on", || state(wrapper) == Some('S') && matches!(state(agent), Some('S' | 'R')));
        }
        launched.send(libc::SIGTERM);
        let status = launched.end();
        assert_eq!(status.code().or(status.signal()), Some(if options == EXEC_MODE { 15 } else { 143 }));
    }
}

/// SIGSTOP can't be passed on: nobody but the kernel sees it.
#[test]
fn a_stopped_supervisor_loses_nothing() {
    let site = Site::with_two_agents().unfenced();
    for options in [SUPERVISE, MASK] {
        let mut launched = Launched::agent(&site, options, SLEEPER);
        let (wrapper, agent) = (launched.pid(), number(&launched.line()));
        send_signal(wrapper, libc::SIGSTOP).unwrap();
        wait_until("it is stopped", || state(wrapper) == Some('T'));
        // On its way to sleep at the most.
        assert!(matches!(state(agent), Some('S' | 'R')), "{:?}", state(agent));
        // It ends meanwhile, and another signal is on its way.
        send_signal(agent, libc::SIGUSR1).unwrap();
        wait_until("the agent has ended", || is_gone(agent));
        send_signal(wrapper, libc::SIGTERM).unwrap();
        assert_eq!(state(wrapper), Some('T'));
        send_signal(wrapper, libc::SIGCONT).unwrap();
        assert_eq!(launched.end().code(), Some(128 + libc::SIGUSR1));
    }
}

#[test]
fn every_exit_status_passes_through() {
    let site = Site::with_two_agents().unfenced();
    for code in [0, 1, 2, 42, 77, 78, 125, 126, 127, 128, 143, 200, 255] {
        for options in [EXEC_MODE, SUPERVISE, MASK] {
            let script = format!("exit {code}");
            let mut launched = Launched::agent(&site, options, &["sh", "-c", &script]);
            assert_eq!(launched.end().code(), Some(code), "{options:?}");
        }
    }
}
