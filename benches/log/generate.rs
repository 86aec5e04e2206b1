//! An instance with a log as some months of several chains leave it: made line by line as
//! docs/access-log.md says, not by the code that is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use mentiko_exec::instance::Instance;
use mentiko_exec::memory::Arena;
use mentiko_exec::policy::SecretName;
use mentiko_exec::vault::{AuditKey, Vault, WriteLock, sha256};
use serde::Serialize;

use crate::MENTIKO;

/// The first of 14 months.
const START: &str = "2025-05-01T00:00:00Z";
const DAYS: i64 = 426;
/// Runs that go on at once.
const RUNS: usize = 8;

struct Chain {
    name: &'static str,
    /// Of so many runs in a hundred.
    share: u64,
    supervised: bool,
    agents: &'static [Agent],
}

struct Agent {
    name: &'static str,
    command: &'static str,
    secrets: &'static [&'static str],
}

const fn chain(name: &'static str, share: u64, supervised: bool, agents: &'static [Agent]) -> Chain {
    Chain { name, share, supervised, agents }
}

const fn agent(name: &'static str, command: &'static str, secrets: &'static [&'static str]) -> Agent {
    Agent { name, command, secrets }
}

const CHAINS: &[Chain] = &[
    chain(
        "content-pipeline",
        15,
        false,
        &[
            agent("researcher", "python3", &["OPENAI_API_KEY", "SERPAPI_KEY"]),
            agent("writer", "python3", &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"]),
            agent("publisher", "node", &["SLACK_WEBHOOK", "CMS_TOKEN", "CDN_PURGE_TOKEN"]),
        ],
    ),
    chain(
        "billing",
        7,
        false,
        &[
            agent("ledger", "python3", &["BILLING_DATABASE_URL", "ANTHROPIC_API_KEY"]),
            agent("charger", "node", &["STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"]),
            agent("mailer", "node", &["SENDGRID_API_KEY", "OPENAI_API_KEY"]),
        ],
    ),
    chain(
        "support-triage",
        18,
        true,
        &[
            agent("reader", "python3", &["ZENDESK_TOKEN", "OPENAI_API_KEY"]),
            agent("answerer", "python3", &["ZENDESK_TOKEN", "ANTHROPIC_API_KEY", "PINECONE_API_KEY"]),
            agent("escalator", "bash", &["PAGERDUTY_TOKEN", "SLACK_WEBHOOK"]),
        ],
    ),
    chain(
        "code-review",
        20,
        true,
        &[
            agent("fetcher", "git", &["GITHUB_TOKEN", "GITHUB_APP_KEY"]),
            agent("reviewer", "node", &["ANTHROPIC_API_KEY", "SONAR_TOKEN"]),
            agent("commenter", "bash", &["GITHUB_TOKEN"]),
        ],
    ),
    chain(
        "data-sync",
        12,
        false,
        &[
            agent("extractor", "python3", &["SALESFORCE_CLIENT_SECRET", "HUBSPOT_TOKEN"]),
            agent(
                "loader",
                "python3",
                &["WAREHOUSE_DATABASE_URL", "SNOWFLAKE_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            ),
            agent("checker", "dbt", &["DBT_CLOUD_TOKEN"]),
        ],
    ),
    chain(
        "release",
        6,
        true,
        &[
            agent("builder", "make", &["NPM_TOKEN", "CARGO_REGISTRY_TOKEN", "DOCKER_PASSWORD"]),
            agent("signer", "bash", &["SIGNING_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]),
            agent("announcer", "node", &["SLACK_WEBHOOK", "MASTODON_TOKEN", "DISCORD_BOT_TOKEN"]),
        ],
    ),
    chain(
        "monitoring",
        10,
        false,
        &[
            agent("prober", "bash", &["DATADOG_API_KEY", "GRAFANA_TOKEN", "SENTRY_AUTH_TOKEN"]),
            agent("reporter", "python3", &["PAGERDUTY_TOKEN", "DISCORD_BOT_TOKEN"]),
        ],
    ),
    chain(
        "market-research",
        12,
        false,
        &[
            agent("crawler", "python3", &["SERPAPI_KEY", "BRIGHTDATA_PASSWORD", "REDDIT_CLIENT_SECRET"]),
            agent("analyst", "python3", &["OPENAI_API_KEY", "GEMINI_API_KEY", "PINECONE_API_KEY"]),
            agent("archivist", "node", &["NOTION_TOKEN", "AIRTABLE_TOKEN", "GOOGLE_SERVICE_ACCOUNT"]),
        ],
    ),
];

/// The instance in this folder, with a log of so many records. One that is there already is used
/// as it is.
pub(crate) fn instance(folder: &Path, records: u64) -> PathBuf {
    let instance = folder.join("instance");
    if instance.exists() {
        let found = records_of(&instance);
        assert!(found == records, "{} has {found} records, not {records}: remove it", instance.display());
        return instance;
    }
    init(&instance);
    with_vault(&instance, |instance, vault| {
        for entry in std::fs::read_dir(&instance.audit).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        write_log(Writer::new(instance, vault, records));
    });
    instance
}

/// An instance whose vault and chains hold all names above, and whose log says only that it was made.
pub(crate) fn init(folder: &Path) {
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    assert!(Command::new(MENTIKO).arg("init").arg(folder).stdout(Stdio::null()).status().unwrap().success());
    let instance = Instance::open(folder).unwrap();
    let arena = Arena::new().unwrap();
    let lock = WriteLock::take(&instance).unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    let mut contents = vault.read_all().unwrap();
    let value = arena.alloc(48).unwrap();
    for name in secrets() {
        let name: SecretName = name.parse().unwrap();
        let mut record = Vault::new_record(name.clone(), 1_746_057_600);
        value.fill(b'v');
        vault.add_version(&mut record, value, 1_746_057_600).unwrap();
        contents.insert(name, record);
    }
    vault.replace(&lock, &contents).unwrap();
    for chain in CHAINS {
        let agents: BTreeMap<_, _> = chain.agents.iter().map(|agent| (agent.name, agent.secrets)).collect();
        let listed: Vec<_> = chain.agents.iter().flat_map(|agent| agent.secrets).collect();
        let definition = serde_json::json!({"secrets": listed, "agents": agents});
        let path = instance.chains.join(format!("{}.json", chain.name));
        std::fs::write(path, definition.to_string()).unwrap();
    }
}

pub(crate) fn with_vault<T>(folder: &Path, work: impl FnOnce(&Instance, &Vault<'_>) -> T) -> T {
    let instance = Instance::open(folder).unwrap();
    let arena = Arena::new().unwrap();
    let vault = Vault::open(&instance, instance.key.read(None, &arena).unwrap(), &arena).unwrap();
    work(&instance, &vault)
}

/// The number of the log's last record.
pub(crate) fn records_of(instance: &Path) -> u64 {
    let output = Command::new(MENTIKO).args(["audit", "head", "--instance"]).arg(instance).output().unwrap();
    let head = String::from_utf8(output.stdout).unwrap();
    head.split(':').next().unwrap().parse().unwrap()
}

/// Each once.
fn secrets() -> Vec<&'static str> {
    let mut names: Vec<_> = CHAINS.iter().flat_map(|chain| chain.agents).flat_map(|agent| agent.secrets).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().copied().collect()
}

/// A run that goes on, and the agent that runs in it.
struct Run {
    chain: &'static Chain,
    id: String,
    started: usize,
    agent: Option<(&'static Agent, Process)>,
}

#[derive(Clone, Copy)]
struct Process {
    pid: i32,
    start: u64,
}

fn write_log(mut log: Writer<'_>) {
    let names = secrets();
    let own = log.process();
    log.write(&Line { event: "instance.init", outcome: "done", generation: Some(1), ..log.line(own) });
    for name in &names {
        let process = log.process();
        let line = Line { secret: Some(name), version: Some(1), ..log.line(process) };
        log.write(&Line { event: "secret.set", outcome: "done", ..line });
    }
    let mut runs: Vec<Run> = (0..RUNS).map(|_| log.new_run()).collect();
    while !log.is_full() {
        log.pass_time();
        let at = log.random.below(RUNS as u64) as usize;
        log.end_agent(&mut runs[at]);
        if runs[at].started == runs[at].chain.agents.len() {
            runs[at] = log.new_run();
        }
        log.launch(&mut runs[at], &names);
    }
    log.finish();
}

/// The fields of docs/access-log.md, in its order.
#[derive(Clone, Copy, Serialize)]
struct Line<'a> {
    v: u8,
    seq: u64,
    time: &'a str,
    event: &'a str,
    outcome: &'a str,
    chain: Option<&'a str>,
    agent: Option<&'a str>,
    run: Option<&'a str>,
    secret: Option<&'a str>,
    version: Option<u32>,
    reason: Option<&'a str>,
    instance: &'a str,
    generation: Option<u64>,
    host: &'a str,
    uid: u32,
    pid: i32,
    start: Option<u64>,
    command: Option<&'a str>,
    fence: Option<&'a str>,
    memory: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    milliseconds: Option<u64>,
    prev: &'a str,
}

struct Writer<'a> {
    key: AuditKey<'a>,
    instance: String,
    folder: PathBuf,
    generation: u64,
    records: u64,
    random: Random,
    /// Of the last launch.
    time: Timestamp,
    time_text: String,
    seq_at_time: u64,
    pid: i32,
    // The chain, and the segment being written:
    seq: u64,
    prev: String,
    month: String,
    segment: Option<BufWriter<File>>,
    text: Vec<u8>,
}

impl<'a> Writer<'a> {
    fn new(instance: &Instance, vault: &Vault<'a>, records: u64) -> Self {
        let mut new = Self {
            key: vault.audit_key(),
            instance: instance.id.to_string(),
            folder: instance.audit.clone(),
            generation: vault.generation(),
            records,
            random: Random(0x2545_f491_4f6c_dd1d),
            time: START.parse().unwrap(),
            time_text: String::new(),
            seq_at_time: 0,
            pid: 1000,
            seq: 0,
            prev: "0".repeat(64),
            month: String::new(),
            segment: None,
            text: Vec::new(),
        };
        new.pass_time();
        new
    }

    fn is_full(&self) -> bool {
        self.seq == self.records
    }

    /// So much for each record since the last time that the records fill the months.
    fn pass_time(&mut self) {
        let each = DAYS * 86_400_000_000 / i64::try_from(self.records).unwrap();
        let passed = each * i64::try_from(self.seq - self.seq_at_time).unwrap();
        let micros = passed / 2 + self.random.below(passed as u64 + 1) as i64;
        self.time += SignedDuration::from_micros(micros);
        self.time_text = format!("{:.6}", self.time);
        self.seq_at_time = self.seq;
    }

    fn new_run(&mut self) -> Run {
        let mut at = self.random.below(CHAINS.iter().map(|chain| chain.share).sum());
        let is_it = |chain: &&Chain| match at.checked_sub(chain.share) {
            Some(rest) => {
                at = rest;
                false
            }
            None => true,
        };
        let chain = CHAINS.iter().find(is_it).unwrap();
        // A UUIDv7 (RFC 9562).
        let (milliseconds, random) = (self.time.as_millisecond(), self.random.next());
        let id = format!(
            "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
            milliseconds >> 16,
            milliseconds & 0xffff,
            random >> 52,
            random >> 48 & 0x3fff | 0x8000,
            random & 0xffff_ffff_ffff
        );
        Run { chain, id, started: 0, agent: None }
    }

    fn process(&mut self) -> Process {
        self.pid = 1000 + (self.pid - 999 + self.random.below(9) as i32) % 4_000_000;
        // Ticks of 10 ms, since a boot an hour before the first line.
        let start = self.time.as_millisecond() - START.parse::<Timestamp>().unwrap().as_millisecond() + 3_600_000;
        Process { pid: self.pid, start: start as u64 / 10 }
    }

    /// Without what the writer itself adds.
    fn line<'l>(&self, process: Process) -> Line<'l> {
        Line {
            v: 1,
            seq: 0,
            time: "",
            event: "",
            outcome: "",
            chain: None,
            agent: None,
            run: None,
            secret: None,
            version: None,
            reason: None,
            instance: "",
            generation: Some(self.generation),
            host: "agents-01",
            uid: 1000,
            pid: process.pid,
            start: Some(process.start),
            command: None,
            fence: None,
            memory: None,
            status: None,
            milliseconds: None,
            prev: "",
        }
    }

    fn launch(&mut self, run: &mut Run, names: &[&str]) {
        let agent = &run.chain.agents[run.started];
        run.started += 1;
        let process = self.process();
        let line = Line {
            event: "secret.access",
            chain: Some(run.chain.name),
            agent: Some(agent.name),
            run: Some(&run.id),
            command: Some(agent.command),
            ..self.line(process)
        };
        let denied = Line { outcome: "denied", ..line };
        // A denial in some seventy launches; in some of these the key can't be had.
        match self.random.below(3500) {
            0 => self.write(&Line { reason: Some("no instance key"), generation: None, ..denied }),
            1..50 => {
                let name = names[self.random.below(names.len() as u64) as usize];
                let reason = match agent.secrets.contains(&name) {
                    true => "no usable version",
                    false => "secret not granted to agent",
                };
                self.write(&Line { secret: Some(name), reason: Some(reason), ..denied });
            }
            _ => {
                for name in agent.secrets {
                    self.write(&Line {
                        outcome: "granted",
                        secret: Some(name),
                        version: Some(1),
                        fence: Some("namespace"),
                        memory: Some("secretmem"),
                        ..line
                    });
                }
                run.agent = Some((agent, process));
            }
        }
    }

    fn end_agent(&mut self, run: &mut Run) {
        let Some((agent, process)) = run.agent.take().filter(|_| run.chain.supervised) else { return };
        let line = Line {
            event: "agent.end",
            outcome: "done",
            chain: Some(run.chain.name),
            agent: Some(agent.name),
            run: Some(&run.id),
            command: Some(agent.command),
            fence: Some("namespace"),
            memory: Some("secretmem"),
            status: Some(u8::from(self.random.below(30) == 0)),
            milliseconds: Some(100 + self.random.below(60_000)),
            ..self.line(process)
        };
        self.write(&line);
    }

    /// Nothing once the log is full.
    fn write(&mut self, line: &Line<'_>) {
        if self.is_full() {
            return;
        }
        self.seq += 1;
        let has_mac = line.generation.is_some();
        let line = Line { seq: self.seq, time: &self.time_text, instance: &self.instance, prev: &self.prev, ..*line };
        self.text.clear();
        serde_json::to_writer(&mut self.text, &line).unwrap();
        self.text.pop();
        match has_mac {
            true => {
                let mac = hex(&self.key.mac(&self.text));
                write!(self.text, ",\"mac\":\"{mac}\"}}").unwrap();
            }
            false => self.text.extend_from_slice(b",\"mac\":null}"),
        }
        self.prev = hex(&sha256(&self.text));
        self.text.push(b'\n');
        if self.month != self.time_text[..7] {
            self.finish();
            self.month = self.time_text[..7].to_owned();
            let path = self.folder.join(format!("access-{}.jsonl", self.month));
            self.segment = Some(BufWriter::with_capacity(1 << 20, File::create(path).unwrap()));
        }
        self.segment.as_mut().unwrap().write_all(&self.text).unwrap();
    }

    /// On the disk, so that nothing is left to be written while others are measured.
    fn finish(&mut self) {
        if let Some(segment) = self.segment.take() {
            segment.into_inner().unwrap().sync_data().unwrap();
        }
    }
}

/// xorshift64*: the same log each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
