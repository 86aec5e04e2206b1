//! Where values and keys are in memory, and where they are not: a launch is stopped right before
//! the execve of its agent, and all of its memory and a core file of it are searched.
//!
//! Only root can read that memory; run by an ordinary user, the same tests show that this user
//! can't.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use hkdf::Hkdf;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sha2::Sha256;

use crate::common::{Site, is_root, text};

/// What the caller's environment holds for the search to find.
const MARK: &str = "planted-in-the-environment-of-the-caller";
const PASSPHRASE: &[u8] = b"seven quiet otters carry 19 lanterns";
/// The number that the passphrase is handed over under: above all that the tests have open.
const PASSPHRASE_FD: i32 = 400;

#[test]
fn before_exec_values_and_keys_are_in_secretmem_alone() {
    let kit = Kit::new(KeySource::File);
    let mut command = kit.launch();
    let parked = Parked::before_exec(&mut command);
    kit.shows_no_value_outside_memory(&parked);
    if !is_root() {
        return parked.is_closed_to_this_user();
    }
    parked.hands_no_descriptor_on();
    let (found, unreadable) = parked.search(&kit.needles(), |_| true);
    assert_eq!(found, [MARK]);
    let arena = unreadable.iter().find(|mapping| mapping.name.starts_with("/secretmem")).unwrap();
    let error = parked.memory().read_at(&mut [0; 16], arena.start).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(unreadable.iter().all(|mapping| mapping.name.starts_with("/secretmem") || mapping.name.starts_with("[v")));
    assert_eq!(parked.search_core(&kit.needles()), [MARK]);
}

#[test]
fn without_secretmem_they_are_in_locked_pages_alone_which_a_helper_wipes() {
    let kit = Kit::new(KeySource::File);
    let mut command = kit.launch();
    // SAFETY: prctl(2) alone, between fork and exec.
    unsafe { command.pre_exec(refuse_secretmem) };
    let parked = Parked::before_exec(&mut command);
    let record = kit.site.accesses().pop().unwrap();
    assert_eq!(record["memory"], "mlock");
    let helpers: Vec<Pid> = kit.processes().into_iter().filter(|&pid| pid != parked.pid).collect();
    assert_eq!(helpers.len(), 1, "one helper waits");
    if !is_root() {
        for pid in [parked.pid, helpers[0]] {
            assert!(File::open(format!("/proc/{pid}/mem")).is_err());
            assert_eq!(ptrace::attach(pid), Err(Errno::EPERM));
        }
        let agent = parked.becomes("sleep");
        kit.has_no_process_left();
        return assert!(children(agent.pid).is_empty());
    }
    // The helper is a fork: what the wrapper left anywhere, it has too.
    for pid in [parked.pid, helpers[0]] {
        let arena: Vec<Mapping> = mappings(pid).into_iter().filter(Mapping::is_locked_arena).collect();
        assert_eq!(arena.len(), 1, "{arena:#?}");
        let (found, _) = search(pid, &kit.needles(), |mapping| !mapping.is_locked_arena());
        assert_eq!(found, [MARK], "outside the arena of process {pid}");
        let (found, _) = search(pid, &kit.needles(), Mapping::is_locked_arena);
        assert!(found.contains(&"value of GRANTED_HEX".into()) && found.contains(&"root key".into()), "{found:?}");
        assert!(!found.iter().any(|what| what.contains("OTHER")), "{found:?}");
    }
    assert_eq!(parked.search_core(&kit.needles()), [MARK]);

    // The pages outlive the wrapper as long as this descriptor of them is open.
    let arena = mappings(parked.pid).into_iter().find(Mapping::is_locked_arena).unwrap();
    let path = format!("/proc/{}/map_files/{:x}-{:x}", parked.pid, arena.start, arena.end);
    let pages = File::open(path).unwrap();
    let content = || {
        let mut bytes = vec![0; (arena.end - arena.start) as usize];
        pages.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    assert!(kit.needles().found_in(&content()).contains(&"value of GRANTED_HEX"));
    let agent = parked.becomes("sleep");
    kit.has_no_process_left();
    assert!(content().iter().all(|&byte| byte == 0), "the helper ended without wiping");
    assert!(children(agent.pid).is_empty());
}

#[test]
fn the_agent_has_the_granted_values_in_its_environment_once_and_nothing_else() {
    let kit = Kit::new(KeySource::File);
    let agent = Parked::before_exec(&mut kit.launch()).becomes("sleep");
    // Here the ordinary user may look: the agent is a process like any other of his.
    let (start, end) = agent.environment();
    let memory = agent.memory();
    let mut environment = vec![0; (end - start) as usize];
    memory.read_exact_at(&mut environment, start).unwrap();
    for (name, value) in kit.values.iter().filter(|(name, _)| name.starts_with("GRANTED")) {
        let assignment = format!("{name}={value}");
        assert!(environment.split(|&byte| byte == 0).any(|text| text == assignment.as_bytes()), "{name}");
        let places = agent.places_of(value.as_bytes());
        assert!(matches!(places[..], [place] if (start..end).contains(&place)), "{name}: {places:x?}");
    }
    kit.has_given_the_granted_alone(&agent);
    kit.has_no_process_left();
    assert!(children(agent.pid).is_empty());
    let line = std::fs::read(format!("/proc/{}/cmdline", agent.pid)).unwrap();
    assert_eq!(line, b"sleep\x0060\0");
}

#[test]
fn a_passphrase_and_what_is_derived_from_it_leave_nothing() {
    let kit = Kit::new(KeySource::Passphrase);
    let mut command = kit.launch();
    let _pipe = hand_over_passphrase(&mut command);
    let parked = Parked::before_exec(&mut command);
    if !is_root() {
        parked.is_closed_to_this_user();
    } else {
        let (found, _) = parked.search(&kit.needles(), |_| true);
        assert_eq!(found, [MARK]);
        assert_eq!(parked.search_core(&kit.needles()), [MARK]);
    }
    kit.has_given_the_granted_alone(&parked.becomes("sleep"));
}

#[test]
fn a_wrapper_that_crashes_leaves_no_core_file() {
    let kit = Kit::new(KeySource::File);
    let folder = tempfile::tempdir().unwrap();
    let dumps = |command: &mut Command, end| {
        // SAFETY: two calls about limits, between fork and exec.
        unsafe { command.current_dir(folder.path()).pre_exec(raise_core_limit) };
        match end {
            Signal::SIGSEGV => Parked::with(command, registers::to_nowhere),
            _ => Parked::before_exec(command),
        }
        .dies_of(end)
    };
    for end in [Signal::SIGABRT, Signal::SIGSEGV] {
        assert!(!dumps(&mut kit.launch(), end), "{end} dumped core");
        // --allow-core is about the agent; the caller's limit is back by now.
        let mut allowed = kit.site.exec("c", "a");
        allowed.args(["--allow-core", "--", "sleep", "60"]);
        assert!(!dumps(&mut allowed, end), "{end} dumped core with --allow-core");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // What was looked for does happen to another program that ends so at the same point. Where the
    // system sends core files elsewhere (core(5)), it decides itself.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if !pattern.trim().is_empty() && !pattern.starts_with(['|', '/', '@']) {
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        for end in [Signal::SIGABRT, Signal::SIGSEGV] {
            assert_eq!(dumps(Command::new("env").args(["sleep", "60"]), end), hard > 0);
        }
    }
}

#[test]
fn a_waiting_supervisor_holds_nothing() {
    let kit = Kit::new(KeySource::File);
    // With and without pages that the kernel wipes by itself.
    for refused in [false, true] {
        let wrapper = kit.stays("--supervise", refused);
        if !is_root() {
            assert!(File::open(format!("/proc/{}/mem", wrapper.pid)).is_err());
            continue;
        }
        wait_until("the arena is gone", || {
            !mappings(wrapper.pid)
                .iter()
                .any(|mapping| mapping.name.starts_with("/secretmem") || mapping.is_locked_arena())
        });
        let (found, _) = search(wrapper.pid, &kit.needles(), |_| true);
        assert_eq!(found, [MARK]);
    }
}

#[test]
fn a_supervisor_that_masks_has_values_in_its_arena_alone() {
    let kit = Kit::new(KeySource::File);
    for refused in [false, true] {
        let wrapper = kit.stays("--mask", refused);
        if !is_root() {
            assert!(File::open(format!("/proc/{}/mem", wrapper.pid)).is_err());
            continue;
        }
        let (found, unreadable) = search(wrapper.pid, &kit.needles(), |mapping| !refused || !mapping.is_locked_arena());
        assert_eq!(found, [MARK]);
        assert_eq!(unreadable.iter().any(|mapping| mapping.name.starts_with("/secretmem")), !refused);
        if refused {
            let (found, _) = search(wrapper.pid, &kit.needles(), Mapping::is_locked_arena);
            assert!(found.contains(&"value of GRANTED_HEX".into()), "{found:?}");
            assert!(!found.iter().any(|what| what.contains("OTHER")), "{found:?}");
        }
    }
}

/// An instance with values of several kinds, some granted, some not.
struct Kit {
    site: Site,
    values: Vec<(&'static str, String)>,
    source: KeySource,
    run: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeySource {
    File,
    Passphrase,
}

impl Kit {
    fn new(source: KeySource) -> Self {
        let site = Site::new().unfenced();
        let kit = Self {
            site,
            values: ["GRANTED_HEX", "OTHER_HEX", "GRANTED_BASE64", "OTHER_BASE64", "GRANTED_RAW", "OTHER_RAW"]
                .map(|name| (name, value_for(name)))
                .into(),
            source,
            run: format!("run-{}", printable(20, b"0123456789abcdef")),
        };
        if source == KeySource::Passphrase {
            // In place of what is there.
            for name in ["instance.json", "instance.key", "vault"] {
                std::fs::remove_file(kit.site.file(name)).unwrap();
            }
            std::fs::remove_dir_all(kit.site.file("audit")).unwrap();
            kit.mentiko(&["init", "--key", "passphrase", kit.site.path().to_str().unwrap()], b"");
        }
        for (name, value) in &kit.values {
            kit.mentiko(&["secret", "set", name], value.as_bytes());
        }
        kit.site.chain(
            "c",
            r#"{"secrets": ["GRANTED_HEX", "GRANTED_BASE64", "GRANTED_RAW", "OTHER_HEX", "OTHER_BASE64", "OTHER_RAW"],
                "agents": {"a": ["GRANTED_HEX", "GRANTED_BASE64", "GRANTED_RAW"], "b": ["OTHER_HEX"]}}"#,
        );
        if source == KeySource::File {
            kit.has_a_ledger();
        }
        kit
    }

    /// A launch then looks for its approval, beside which the log's old key lies.
    fn has_a_ledger(&self) {
        self.site.set_policy("require_approval", true);
        self.mentiko(&["key", "rotate", "--yes"], b"");
        self.mentiko(&["chain", "approve", "c", "--yes"], b"");
    }

    fn mentiko(&self, arguments: &[&str], input: &[u8]) {
        let mut command = self.site.mentiko(arguments);
        let _pipe = (self.source == KeySource::Passphrase).then(|| {
            command.args(["--passphrase-fd", &PASSPHRASE_FD.to_string()]);
            hand_over_passphrase(&mut command)
        });
        let output = crate::common::output_with_input(&mut command, input);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// A launch whose agent does nothing; its run ID tells its processes from all others.
    fn launch(&self) -> Command {
        let mut command = self.site.exec("c", "a");
        command.env("PLANTED", MARK).stderr(Stdio::piped());
        if self.source == KeySource::Passphrase {
            command.args(["--passphrase-fd", &PASSPHRASE_FD.to_string()]);
        }
        command.args(["--run-id", &self.run, "--", "sleep", "60"]);
        command
    }

    /// A supervisor, once its agent has written a value and waits.
    fn stays(&self, option: &str, without_secretmem: bool) -> Running {
        let mut command = self.site.exec("c", "a");
        command.args([option, "--", "sh", "-c", r#"echo "$GRANTED_HEX"; exec sleep 60"#]).env("PLANTED", MARK);
        if without_secretmem {
            // SAFETY: prctl(2) alone, between fork and exec.
            unsafe { command.pre_exec(refuse_secretmem) };
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, value) = self.values.iter().find(|(name, _)| *name == "GRANTED_HEX").unwrap();
        assert_eq!(line.trim_end(), if option == "--mask" { "[GRANTED_HEX]" } else { value });
        Running { pid: Pid::from_raw(child.id() as i32), child }
    }

    /// Every process that still has the command line of the launch.
    fn processes(&self) -> Vec<Pid> {
        processes().into_iter().filter(|pid| text(&read(*pid, "cmdline")).contains(&self.run)).collect()
    }

    fn has_no_process_left(&self) {
        wait_until("the helper ended", || self.processes().is_empty());
    }

    /// The agent's memory holds the caller's mark and the granted values, and nothing else.
    fn has_given_the_granted_alone(&self, agent: &Running) {
        let (mut found, _) = search(agent.pid, &self.needles(), |_| true);
        found.sort();
        assert_eq!(found, [MARK, "value of GRANTED_BASE64", "value of GRANTED_HEX", "value of GRANTED_RAW"]);
    }

    /// Neither the command line nor a file shows a value.
    fn shows_no_value_outside_memory(&self, parked: &Parked) {
        let needles = self.needles();
        assert_eq!(needles.found_in(&read(parked.pid, "cmdline")), [""; 0]);
        let mut folders = vec![self.site.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false if path.ends_with("instance.key") => {}
                    false => assert_eq!(needles.found_in(&std::fs::read(&path).unwrap()), [""; 0], "{path:?}"),
                }
            }
        }
    }

    /// All that must not be found, and the mark that must be.
    fn needles(&self) -> Needles {
        let mut needles = Needles::default();
        needles.add_whole(MARK, MARK.as_bytes());
        for (name, value) in &self.values {
            needles.add(&format!("value of {name}"), value.as_bytes(), 16);
        }
        for (name, key) in self.keys() {
            needles.add(&name, &key, 8);
        }
        needles
    }

    /// Every key of a launch, worked out from the files alone, in the forms that cryptographic code
    /// holds them in.
    fn keys(&self) -> Vec<(String, Vec<u8>)> {
        let vault = std::fs::read(self.site.file("vault")).unwrap();
        let configuration = std::fs::read(self.site.file("instance.json")).unwrap();
        let configuration: serde_json::Value = serde_json::from_slice(&configuration).unwrap();
        let instance = unhex(&configuration["instance"].as_str().unwrap().replace('-', ""));
        let (vault_id, generation, write_salt) = (&vault[16..32], &vault[32..40], &vault[40..72]);
        let slot = &vault[80..188];
        let (salt, nonce, sealed, tag) = (&slot[16..48], &slot[48..60], &slot[60..92], &slot[92..108]);
        let mut keys = Vec::new();
        let ikm = match self.source {
            KeySource::File => {
                let key = std::fs::read(self.site.file("instance.key")).unwrap();
                let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
                keys.push(("hexadecimal instance key".to_owned(), digits.into_bytes()));
                key
            }
            KeySource::Passphrase => {
                let parameters = argon2::Params::new(64 * 1024, 3, 4, Some(32)).unwrap();
                let mut stretched = vec![0; 32];
                argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters)
                    .hash_password_into(PASSPHRASE, salt, &mut stretched)
                    .unwrap();
                keys.push(("passphrase".to_owned(), PASSPHRASE.to_vec()));
                stretched
            }
        };
        let kek = derive(&mut keys, ("instance key", &ikm), salt, "slot", &[&instance, vault_id]);
        let aad = [&b"MENTIKO1\x01\0\0\0"[..], vault_id, &slot[..1]].concat();
        let root = open(&kek, nonce, &aad, sealed, tag);
        for purpose in ["header", "index", "audit"] {
            derive(&mut keys, ("root key", &root), &[], purpose, &[]);
        }
        // Few secrets: one bucket, whose entry is the first after the header.
        let offset = u64::from_le_bytes(vault[976..984].try_into().unwrap()) as usize;
        let length = u32::from_le_bytes(vault[984..988].try_into().unwrap()) as usize;
        let key = derive(&mut keys, ("root key", &root), &[], "bucket", &[write_salt, generation, &[0; 4]]);
        let unsealed = |key: &[u8], block: &[u8], index: u32| {
            let (nonce, rest) = block.split_at(12);
            let (sealed, tag) = rest.split_at(rest.len() - 16);
            let aad = [vault_id, generation, &1u32.to_le_bytes(), &index.to_le_bytes()].concat();
            open(key, nonce, &aad, sealed, tag)
        };
        let plain = unsealed(&key, &vault[offset..offset + length], 0);
        if self.source == KeySource::File {
            // The ledger's entry is the next: the number of retired keys, and the first of them.
            let key = derive(&mut keys, ("root key", &root), &[], "ledger", &[write_salt, generation]);
            let plain = unsealed(&key, &vault[offset + length..], 1);
            assert_eq!(plain[..2], [1, 0]);
            keys.extend(forms_of("retired key of the log", &plain[2..34]));
        }
        for (name, value) in &self.values {
            // The name with its length, 24 bytes of metadata without a note, 13 of the version.
            let text = [&(name.len() as u16).to_le_bytes(), name.as_bytes()].concat();
            let at = plain.windows(text.len()).position(|window| window == text).unwrap() + text.len() + 24 + 13;
            let (salt, rest) = plain[at..].split_at(32);
            let info = [vault_id, &text, &1u32.to_le_bytes(), salt];
            let key = derive(&mut keys, ("root key", &root), &[], "value", &info);
            let (sealed, tag) = rest[16..].split_at(value.len());
            let aad = [b"mentiko/1 value", &info.concat()[..]].concat();
            assert_eq!(open(&key, &rest[..12], &aad, sealed, &tag[..16]), value.as_bytes());
        }
        keys
    }
}

/// HKDF under the label; both keys, and the key in between, join the list.
fn derive(
    keys: &mut Vec<(String, Vec<u8>)>,
    (name, ikm): (&str, &[u8]),
    salt: &[u8],
    purpose: &str,
    info: &[&[u8]],
) -> Vec<u8> {
    let (extracted, hkdf) = Hkdf::<Sha256>::extract(Some(salt), ikm);
    let mut key = vec![0; 32];
    let label = format!("mentiko/1 {purpose}");
    hkdf.expand(&[&[label.as_bytes()], info].concat().concat(), &mut key).unwrap();
    for (name, key) in [(name, ikm), (&format!("extracted {name}"), &extracted), (&format!("{purpose} key"), &key)] {
        keys.extend(forms_of(name, key));
    }
    key
}

/// A key as it is, as the pads of HMAC, as the words of SHA-256, and as the hash states after the
/// pads: each tells the key, or is as good as it.
fn forms_of(name: &str, key: &[u8]) -> Vec<(String, Vec<u8>)> {
    let swapped = |bytes: &[u8]| bytes.chunks(4).flat_map(|word| word.iter().rev().copied()).collect::<Vec<u8>>();
    let mut forms = vec![(name.to_owned(), key.to_vec()), (format!("{name} in words"), swapped(key))];
    for (pad, what) in [(0x36, "inner"), (0x5c, "outer")] {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(place, byte)| *place ^= byte);
        let padded = &block[..key.len()];
        let mut state =
            [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
        sha2::block_api::compress256(&mut state, &[block]);
        forms.push((format!("{name} under the {what} pad"), padded.to_vec()));
        forms.push((format!("{name} under the {what} pad in words"), swapped(padded)));
        forms.push((
            format!("{name} in the {what} hash state"),
            state.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        ));
    }
    forms
}

fn open(key: &[u8], nonce: &[u8], aad: &[u8], sealed: &[u8], tag: &[u8]) -> Vec<u8> {
    let mut buffer = sealed.to_vec();
    let (nonce, tag) = (Nonce::try_from(nonce).unwrap(), Tag::try_from(tag).unwrap());
    Aes256Gcm::new_from_slice(key)
        .unwrap()
        .decrypt_inout_detached(&nonce, aad, buffer.as_mut_slice().into(), &tag)
        .unwrap();
    buffer
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn value_for(name: &str) -> String {
    match name {
        name if name.ends_with("HEX") => printable(64, b"0123456789abcdef"),
        name if name.ends_with("BASE64") => {
            printable(44, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
        }
        _ => printable(48, &(b'!'..=b'~').collect::<Vec<u8>>()),
    }
}

fn printable(length: usize, alphabet: &[u8]) -> String {
    let mut bytes = vec![0; length];
    mentiko_exec::instance::fill(&mut bytes).unwrap();
    bytes.iter().map(|&byte| char::from(alphabet[usize::from(byte) % alphabet.len()])).collect()
}

/// What is searched for: every run of some consecutive bytes of it, so that the half of a key and
/// the rest of a value that was overwritten from one side are found too.
#[derive(Default)]
struct Needles {
    /// By their first two bytes, for speed.
    runs: HashMap<[u8; 2], Vec<(String, Vec<u8>)>>,
}

impl Needles {
    fn add(&mut self, name: &str, bytes: &[u8], run: usize) {
        bytes.windows(run).for_each(|window| self.add_whole(name, window));
    }

    fn add_whole(&mut self, name: &str, bytes: &[u8]) {
        self.runs.entry([bytes[0], bytes[1]]).or_default().push((name.to_owned(), bytes.to_vec()));
    }

    /// The names of what is found, each once.
    fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        // A table of all pairs, for a hash of each byte of a process takes too long.
        let mut starts = vec![false; 1 << 16];
        self.runs.keys().for_each(|pair| starts[usize::from(u16::from_ne_bytes(*pair))] = true);
        let mut found: Vec<&str> = Vec::new();
        for at in 0..bytes.len().saturating_sub(1) {
            let pair = [bytes[at], bytes[at + 1]];
            if starts[usize::from(u16::from_ne_bytes(pair))] {
                let rest = &bytes[at..];
                let hits = self.runs[&pair].iter().filter(|(_, run)| rest.starts_with(run)).map(|(name, _)| &**name);
                for name in hits.collect::<Vec<_>>() {
                    if !found.contains(&name) {
                        found.push(name);
                    }
                }
            }
        }
        found
    }
}

#[derive(Debug)]
struct Mapping {
    start: u64,
    end: u64,
    access: String,
    name: String,
    flags: String,
}

impl Mapping {
    /// The arena without secretmem: shared, locked or to be locked, left out of core files.
    fn is_locked_arena(&self) -> bool {
        let has = |flag| self.flags.split(' ').any(|found| found == flag);
        self.access == "rw-s" && has("lo") && has("dd")
    }
}

fn mappings(pid: Pid) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text(&read(pid, "smaps")).lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let number = |digits| u64::from_str_radix(digits, 16).unwrap();
            let access = words.next().unwrap().to_owned();
            let name = words.skip(3).collect::<Vec<_>>().join(" ");
            mappings.push(Mapping { start: number(start), end: number(end), access, name, flags: String::new() });
        } else if first == "VmFlags:" {
            mappings.last_mut().unwrap().flags = words.collect::<Vec<_>>().join(" ");
        }
    }
    mappings
}

/// Searches all memory of a process that `wanted` picks. Returns the names of what was found, and
/// the mappings that could not be read.
fn search(pid: Pid, needles: &Needles, wanted: impl Fn(&Mapping) -> bool) -> (Vec<String>, Vec<Mapping>) {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for mapping in mappings(pid).into_iter().filter(wanted) {
        match read_mapping(pid, &mapping) {
            None => unreadable.push(mapping),
            Some(bytes) => {
                for name in needles.found_in(&bytes) {
                    if !found.iter().any(|known| known == name) {
                        found.push(name.to_owned());
                    }
                }
            }
        }
    }
    (found, unreadable)
}

/// `None` where no page of it can be read. Pages behind the end of a mapped file read as zeros here.
fn read_mapping(pid: Pid, mapping: &Mapping) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut bytes = vec![0; (mapping.end - mapping.start) as usize];
    if memory.read_exact_at(&mut bytes, mapping.start).is_ok() {
        return Some(bytes);
    }
    let pages = bytes.chunks_mut(4096).zip((mapping.start..).step_by(4096));
    let read = pages.filter_map(|(page, at)| memory.read_exact_at(page, at).ok()).count();
    (read > 0).then_some(bytes)
}

/// A process that this test started and ends.
struct Running {
    pid: Pid,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn memory(&self) -> File {
        File::open(format!("/proc/{}/mem", self.pid)).unwrap()
    }

    /// The addresses at which these bytes stand.
    fn places_of(&self, bytes: &[u8]) -> Vec<u64> {
        let mut places = Vec::new();
        for mapping in mappings(self.pid) {
            let Some(content) = read_mapping(self.pid, &mapping) else { continue };
            let mut needle = Needles::default();
            needle.add_whole("it", bytes);
            if !needle.found_in(&content).is_empty() {
                let hits = content.windows(bytes.len()).zip(mapping.start..).filter(|(window, _)| *window == bytes);
                places.extend(hits.map(|(_, at)| at));
            }
        }
        places
    }

    /// The bounds of its environment: fields 50 and 51 (proc_pid_stat(5)).
    fn environment(&self) -> (u64, u64) {
        let fields = stat(self.pid);
        (fields[50 - 3].parse().unwrap(), fields[51 - 3].parse().unwrap())
    }
}

/// A launch that stands right before the execve of its agent: stopped, and traced by nobody.
struct Parked(Running);

impl std::ops::Deref for Parked {
    type Target = Running;
    fn deref(&self) -> &Running {
        &self.0
    }
}

impl Parked {
    fn before_exec(command: &mut Command) -> Self {
        Self::with(command, registers::rewind)
    }

    /// `release` brings it from the entry of execve to where it is to go on.
    fn with(command: &mut Command, release: fn(Pid)) -> Self {
        // SAFETY: one ptrace(2), between fork and exec.
        unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
        let child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        let mut running = Running { pid, child };
        // The first stop is that of the wrapper's own execve.
        assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Stopped(_, Signal::SIGTRAP))));
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL).unwrap();
        let mut signal = None;
        loop {
            ptrace::syscall(pid, signal).unwrap();
            signal = None;
            match waitpid(pid, None).unwrap() {
                WaitStatus::PtraceSyscall(_) if is_entry_of_exec(pid) => break,
                WaitStatus::PtraceSyscall(_) => {}
                WaitStatus::Stopped(_, received) => signal = Some(received),
                ended => {
                    let mut complaint = String::new();
                    running.child.stderr.as_mut().map(|pipe| pipe.read_to_string(&mut complaint));
                    panic!("{ended:?}: {complaint}");
                }
            }
        }
        release(pid);
        ptrace::detach(pid, Signal::SIGSTOP).unwrap();
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{stopped:?}");
        Self(running)
    }

    fn search(&self, needles: &Needles, wanted: impl Fn(&Mapping) -> bool) -> (Vec<String>, Vec<Mapping>) {
        let (found, unreadable) = search(self.pid, needles, wanted);
        (found, unreadable)
    }

    /// Searches a core file that gdb makes of it.
    fn search_core(&self, needles: &Needles) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let core = std::fs::read(self.core(folder.path())).unwrap();
        needles.found_in(&core).into_iter().map(str::to_owned).collect()
    }

    fn core(&self, folder: &Path) -> PathBuf {
        let prefix = folder.join("core");
        let output =
            Command::new("gcore").arg("-o").arg(&prefix).arg(self.pid.to_string()).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("gcore can't be run ({error}); install the package gdb"));
        let core = folder.join(format!("core.{}", self.pid));
        assert!(core.exists() || !is_root(), "{}{}", text(&output.stdout), text(&output.stderr));
        core
    }

    fn hands_no_descriptor_on(&self) {
        for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", self.pid)).unwrap() {
            let path = entry.unwrap().path();
            let info = std::fs::read_to_string(&path).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
            assert!(["0", "1", "2"].iter().any(|&own| path.ends_with(own)) || flags & libc::O_CLOEXEC != 0, "{path:?}");
        }
    }

    /// Lets it go on, until it is the agent and has come to rest.
    fn becomes(self, program: &str) -> Running {
        kill(self.pid, Signal::SIGCONT).unwrap();
        wait_until("the agent runs", || {
            text(&read(self.pid, "comm")).trim_end() == program && stat(self.pid)[0] == "S"
        });
        self.0
    }

    /// Ends it with a signal; whether the kernel dumped core.
    fn dies_of(mut self, signal: Signal) -> bool {
        // The other comes by itself, from where it goes on.
        if signal != Signal::SIGSEGV {
            kill(self.pid, signal).unwrap();
        }
        kill(self.pid, Signal::SIGCONT).unwrap();
        let status = self.0.child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32));
        status.core_dumped()
    }

    /// The user whose process it is can neither read it nor take it over.
    fn is_closed_to_this_user(&self) {
        for name in ["mem", "maps", "environ", "auxv", "fd", "map_files"] {
            let path = Path::new("/proc").join(self.pid.to_string()).join(name);
            let (file, folder) = (File::open(&path).and_then(|mut file| file.read(&mut [0])), path.read_dir());
            assert!(file.is_err() && folder.is_err(), "{name} can be read");
        }
        assert_eq!(ptrace::attach(self.pid), Err(Errno::EPERM));
        assert_eq!(ptrace::seize(self.pid, ptrace::Options::empty()), Err(Errno::EPERM));
        let mut buffer = [0; 8];
        let mut local = [std::io::IoSliceMut::new(&mut buffer)];
        // Refused before the address is looked at.
        let remote = [uio::RemoteIoVec { base: 4096, len: 8 }];
        assert_eq!(uio::process_vm_readv(self.pid, &mut local, &remote), Err(Errno::EPERM));
        let folder = tempfile::tempdir().unwrap();
        assert!(!self.core(folder.path()).exists());
    }
}

fn is_entry_of_exec(pid: Pid) -> bool {
    let info = ptrace::syscall_info(pid).unwrap();
    // SAFETY: a union of numbers, of which the kernel filled this part where `op` says so.
    let number = unsafe { info.u.entry.nr } as i64;
    info.op == libc::PTRACE_SYSCALL_INFO_ENTRY && [libc::SYS_execve, libc::SYS_execveat].contains(&number)
}

/// Leaving the entry of a system call without making the call.
mod registers {
    use super::*;

    /// Right before the call, to be made again.
    pub(super) fn rewind(pid: Pid) {
        let before = ptrace::getregs(pid).unwrap();
        skip(pid, before);
        ptrace::setregs(pid, again(before)).unwrap();
    }

    /// To an address that is never mapped: a crash once it goes on.
    pub(super) fn to_nowhere(pid: Pid) {
        let before = ptrace::getregs(pid).unwrap();
        skip(pid, before);
        ptrace::setregs(pid, nowhere(before)).unwrap();
    }

    fn skip(pid: Pid, before: libc::user_regs_struct) {
        // No call has this number, so none is made.
        set_number(pid, before, -1);
        ptrace::syscall(pid, None).unwrap();
        assert!(matches!(waitpid(pid, None), Ok(WaitStatus::PtraceSyscall(_))));
    }

    #[cfg(target_arch = "x86_64")]
    fn set_number(pid: Pid, before: libc::user_regs_struct, number: i32) {
        let orig_rax = i64::from(number) as u64;
        ptrace::setregs(pid, libc::user_regs_struct { orig_rax, ..before }).unwrap();
    }

    #[cfg(target_arch = "x86_64")]
    fn again(before: libc::user_regs_struct) -> libc::user_regs_struct {
        // SYSCALL has two bytes; the result stood in the number's place.
        libc::user_regs_struct { rip: before.rip - 2, rax: before.orig_rax, orig_rax: u64::MAX, ..before }
    }

    #[cfg(target_arch = "x86_64")]
    fn nowhere(before: libc::user_regs_struct) -> libc::user_regs_struct {
        libc::user_regs_struct { rip: 0, orig_rax: u64::MAX, ..before }
    }

    #[cfg(target_arch = "aarch64")]
    fn set_number(pid: Pid, _: libc::user_regs_struct, mut number: i32) {
        const NT_ARM_SYSTEM_CALL: usize = 0x404;
        let mut vector = libc::iovec { iov_base: (&raw mut number).cast(), iov_len: 4 };
        // SAFETY: the vector names the four bytes of `number`, which outlive the call.
        let answer = unsafe { libc::ptrace(libc::PTRACE_SETREGSET, pid.as_raw(), NT_ARM_SYSTEM_CALL, &raw mut vector) };
        Errno::result(answer).unwrap();
    }

    #[cfg(target_arch = "aarch64")]
    fn again(before: libc::user_regs_struct) -> libc::user_regs_struct {
        // Every instruction has four bytes.
        libc::user_regs_struct { pc: before.pc - 4, ..before }
    }

    #[cfg(target_arch = "aarch64")]
    fn nowhere(before: libc::user_regs_struct) -> libc::user_regs_struct {
        libc::user_regs_struct { pc: 0, ..before }
    }
}

/// As on a kernel without memfd_secret(2), or one started with secretmem.enable=0.
fn refuse_secretmem() -> std::io::Result<()> {
    // The number is the same on every architecture that has the call.
    let errno = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    // SAFETY: both make a struct of numbers.
    let statement = |code, k| unsafe { libc::BPF_STMT(code as u16, k) };
    // SAFETY: as above.
    let unless = |k| unsafe { libc::BPF_JUMP((libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, k, 0, 1) };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        unless(libc::SYS_memfd_secret as u32),
        statement(libc::BPF_RET | libc::BPF_K, errno),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: the program and its filter outlive the call, which copies them.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Ok(Errno::result(answer).map(|_| ())?)
}

fn raise_core_limit() -> std::io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, hard, hard)?)
}

/// A pipe that holds the passphrase; the reading end is to live until the command has started.
fn hand_over_passphrase(command: &mut Command) -> OwnedFd {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    File::from(writer).write_all(PASSPHRASE).unwrap();
    let number = reader.as_raw_fd();
    let hand_over = move || {
        // SAFETY: this process is the command's own, and has nothing of its own under that number.
        Ok(Errno::result(unsafe { libc::dup2(number, PASSPHRASE_FD) }).map(|_| ())?)
    };
    // SAFETY: one dup2(2), between fork and exec.
    unsafe { command.pre_exec(hand_over) };
    reader
}

/// A file of /proc/PID; empty where the process is gone.
fn read(pid: Pid, name: &str) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default()
}

/// /proc/PID/stat from field 3 on, which follows the command in its parentheses.
fn stat(pid: Pid) -> Vec<String> {
    let line = text(&read(pid, "stat"));
    let (_, fields) = line.rsplit_once(')').unwrap_or_default();
    fields.split_ascii_whitespace().map(str::to_owned).collect()
}

fn processes() -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok().map(Pid::from_raw)).collect()
}

fn children(parent: Pid) -> Vec<Pid> {
    let parent = parent.to_string();
    processes().into_iter().filter(|&pid| stat(pid).get(1) == Some(&parent)).collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
