//! One command: which, with what, and for how long it is let live.

use std::io::{Read, Write as _};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::Loop;
use super::model::{Launch, Write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Set,
    Rotate,
    Retire,
    Launch,
    Supervise,
    Mask,
    Query,
    RunStart,
    KeyRotate,
}

/// How often each comes, of 100.
const SHARES: [(Kind, u64); 9] = [
    (Kind::Set, 20),
    (Kind::Rotate, 20),
    (Kind::Retire, 6),
    (Kind::Launch, 22),
    (Kind::Supervise, 10),
    (Kind::Mask, 5),
    (Kind::Query, 10),
    (Kind::RunStart, 4),
    (Kind::KeyRotate, 3),
];

impl Kind {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Set => "`secret set`",
            Self::Rotate => "`secret rotate`",
            Self::Retire => "`secret retire`",
            Self::Launch => "a launch",
            Self::Supervise => "a launch, `--supervise`",
            Self::Mask => "a launch, `--mask`",
            Self::Query => "`audit query`",
            Self::RunStart => "`run start`",
            Self::KeyRotate => "`key rotate`",
        }
    }
}

/// The same throws for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.below(1);
        dice
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// How it came out, and what it said.
struct Ended {
    start: Instant,
    end: Instant,
    status: ExitStatus,
    said: String,
}

/// No value and no marker is made twice.
static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Loop<'_> {
    /// Starts one command, and kills it at some moment, or a bit later than it usually ends. One in ten is let be.
    pub(super) fn one(&self, dice: &mut Dice, batch: u64) {
        let mut pick = dice.below(100);
        let (kind, _) =
            SHARES.iter().find(|(_, share)| pick.checked_sub(*share).map(|rest| pick = rest).is_none()).unwrap();
        let secret = ["A", "B"][usize::try_from(dice.below(2)).unwrap()];
        let is_killed = dice.below(10) > 0;
        match kind {
            Kind::Set | Kind::Rotate => self.store(*kind, secret, dice, is_killed),
            Kind::Launch | Kind::Supervise | Kind::Mask => self.launch(*kind, secret, dice, is_killed, batch),
            Kind::Retire => self.command(*kind, &["secret", "retire", secret], dice, is_killed),
            Kind::Query => self.command(*kind, &["audit", "query", "--secret", secret, "--count"], dice, is_killed),
            Kind::KeyRotate => self.command(*kind, &["key", "rotate", "--yes"], dice, is_killed),
            Kind::RunStart => self.start_run(dice, is_killed),
        }
    }

    pub(super) fn store(&self, kind: Kind, secret: &'static str, dice: &mut Dice, is_killed: bool) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let value = format!("value-{number}-{}", "x".repeat(usize::try_from(dice.below(300)).unwrap()));
        let verb = if kind == Kind::Set { "set" } else { "rotate" };
        let mut command = self.site.mentiko(&["secret", verb, secret]);
        let ended = self.execute(kind, &mut command, value.as_bytes(), dice, is_killed);
        // What was said stands, also by one that was killed before its end.
        let version = ended
            .said
            .split_once("version ")
            .and_then(|(_, rest)| rest.split_once([',', ';']).and_then(|(number, _)| number.parse().ok()));
        assert!(version.is_some() || !ended.status.success(), "{}", ended.said);
        let (start, end) = (ended.start, ended.end);
        self.model.lock().unwrap().write(Write { secret, value, start, end, version });
    }

    /// In a run of its own; now and then in one that others are in too.
    fn launch(&self, kind: Kind, secret: &'static str, dice: &mut Dice, is_killed: bool, batch: u64) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut command = self.site.exec("c", if secret == "A" { "one" } else { "two" });
        command.args(match kind {
            Kind::Supervise => Some("--supervise"),
            Kind::Mask => Some("--mask"),
            _ => None,
        });
        if dice.below(8) == 0 {
            command.args(["--fence", "off"]);
        }
        let run = match dice.below(4) {
            0 => Some(format!("batch-{batch}-{}", dice.below(2))),
            1 => self.model.lock().unwrap().started_run(usize::try_from(dice.below(100)).unwrap()),
            _ => None,
        };
        if let Some(run) = &run {
            command.args(["--run-id", run]);
        }
        let script = format!(r#"printf %s "${secret}" >"$0/$1 $$ $MENTIKO_RUN_ID""#);
        command.args(["--", "sh", "-c", &script]).arg(self.markers.path()).arg(number.to_string());
        let Ended { start, end, status, .. } = self.execute(kind, &mut command, b"", dice, is_killed);
        let launch = Launch { start, end, secret, run, done: status.success() };
        self.model.lock().unwrap().launch(number, launch);
    }

    fn start_run(&self, dice: &mut Dice, is_killed: bool) {
        let mut command = self.site.mentiko(&["run", "start", "c"]);
        let ended = self.execute(Kind::RunStart, &mut command, b"", dice, is_killed);
        if let Some(run) = ended.said.strip_suffix('\n') {
            self.model.lock().unwrap().run_started(run.to_owned(), ended.start);
        }
    }

    fn command(&self, kind: Kind, arguments: &[&str], dice: &mut Dice, is_killed: bool) {
        self.execute(kind, &mut self.site.mentiko(arguments), b"", dice, is_killed);
    }

    /// Runs it with this on its standard input, and kills it, or waits for its end.
    fn execute(&self, kind: Kind, command: &mut Command, input: &[u8], dice: &mut Dice, is_killed: bool) -> Ended {
        // Whoever has read the old key would find a vault that it does not open.
        let (_alone, _beside) = match kind {
            Kind::KeyRotate => (Some(self.turn.write().unwrap()), None),
            _ => (None, Some(self.turn.read().unwrap())),
        };
        let life = self.lives.lock().unwrap().get(&kind).copied().unwrap_or(Duration::from_millis(30));
        let start = Instant::now();
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        // It may be dead by then.
        let _ = child.stdin.take().unwrap().write_all(input);
        if is_killed {
            std::thread::sleep(
                (life * 12 / 10).mul_f64(dice.below(10_000) as f64 / 10_000.0).saturating_sub(start.elapsed()),
            );
            // As a rule with all that belongs to it; a supervisor may also die before its agent.
            let killed = if dice.below(4) == 0 { kill(pid, Signal::SIGKILL) } else { killpg(pid, Signal::SIGKILL) };
            killed.unwrap();
        }
        let status = wait(&mut child, kind);
        let end = Instant::now();
        let was_killed = is_killed && status.signal() == Some(Signal::SIGKILL as i32);
        let mut said = [String::new(), String::new()];
        // The agent of a supervisor that was killed may still have them open.
        if !was_killed || !matches!(kind, Kind::Supervise | Kind::Mask) {
            child.stdout.take().unwrap().read_to_string(&mut said[0]).unwrap();
            child.stderr.take().unwrap().read_to_string(&mut said[1]).unwrap();
        }
        let [said, complaint] = said;
        assert!(was_killed || status.success(), "{kind:?}: {status} {complaint}");
        self.note(kind, is_killed, was_killed, end - start);
        Ended { start, end, status, said }
    }

    fn note(&self, kind: Kind, is_killed: bool, was_killed: bool, took: Duration) {
        let mut ends = self.tally.ends.lock().unwrap();
        let ends = ends.entry(kind).or_default();
        match (is_killed, was_killed) {
            (_, true) => ends.killed += 1,
            (true, false) => ends.before += 1,
            (false, false) => ends.spared += 1,
        }
        let mut lives = self.lives.lock().unwrap();
        match (is_killed, was_killed) {
            (false, _) => {
                lives.entry(kind).and_modify(|life| *life = (*life * 3 + took) / 4).or_insert(took);
            }
            // Too short by tendency: until one is known that was let be.
            (true, false) => {
                lives.entry(kind).or_insert(took);
            }
            (true, true) => {}
        }
    }
}

/// Its end. What was not killed and waits for something that never comes has failed.
fn wait(child: &mut Child, kind: Kind) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{kind:?} does not end");
        std::thread::sleep(Duration::from_micros(500));
    }
}
