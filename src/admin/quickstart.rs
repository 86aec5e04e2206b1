//! `mentiko quickstart`: the whole thing at work, in an instance that is thrown away.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use jiff::Timestamp;

use super::context::{self, Change};
use super::init::{Places, make, write_new};
use super::table::Printer;
use super::{Error, query};
use crate::audit::{Event, Filter, Record, search};
use crate::instance::{Instance, KeySource, fill, uuid_v7};
use crate::memory::Arena;
use crate::policy::SecretName;
use crate::vault::{PassphraseCost, Vault};

const CHAIN: &str = r#"{
  "chain": "content-pipeline",
  "secrets": ["OPENAI_API_KEY", "SLACK_WEBHOOK"],
  "agents": {
    "researcher": ["OPENAI_API_KEY"],
    "publisher": ["SLACK_WEBHOOK"]
  }
}
"#;

/// The agent: says which of the two variables it got, and how long the value is.
const AGENT: &str = r#"for name in OPENAI_API_KEY SLACK_WEBHOOK; do
  eval "value=\${$name-}"
  if [ -n "$value" ]; then echo "  $name: got it, ${#value} characters"; else echo "  $name: not there"; fi
done
"#;

pub(super) fn run() -> Result<ExitCode, Error> {
    let wrapper = wrapper()?;
    let folder = Folder::make()?;
    // Apart from the agent's own folder, for the fence covers the instance's.
    let (own, work) = (folder.0.join("instance"), folder.0.join("work"));
    let instance = prepare(&own, &work)?;
    let mut out = std::io::stdout();
    writeln!(out, "An instance for this demonstration, in {}:", own.display())?;
    writeln!(out, "two secrets in its vault, and the chain 'content-pipeline' in chains/content-pipeline.json:\n")?;
    writeln!(out, "{CHAIN}")?;
    for (agent, expected) in [("researcher", 0), ("publisher", 0), ("intruder", 77)] {
        writeln!(out, "$ mentiko-exec --chain content-pipeline --agent {agent} -- sh agent.sh")?;
        out.flush()?;
        let status = launch(&wrapper, &own, &work, agent)?;
        if status != Some(expected) {
            return Err(format!("{} ended with {status:?}, not with {expected}", wrapper.display()).into());
        }
        if expected != 0 {
            writeln!(out, "  refused, exit status {expected}: nothing was run")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "$ mentiko audit query")?;
    let mut printer = Printer::new(query::HEADINGS);
    search(&instance.audit, &Filter::default(), |line| -> Result<(), Error> {
        let Some(record) = Record::parse(line) else { return Ok(()) };
        let (row, tone) = query::row(record, Timestamp::now());
        printer.push(row, tone)
    })?;
    printer.flush()?;
    writeln!(out, "\nFor real, three commands and a chain definition like the one above:")?;
    writeln!(out, "  mentiko init")?;
    writeln!(out, "  mentiko secret set OPENAI_API_KEY --scope content-pipeline --rotate-every 30d")?;
    writeln!(out, "  mentiko-exec --chain content-pipeline --agent researcher -- python agent.py")?;
    Ok(ExitCode::SUCCESS)
}

fn prepare(folder: &Path, work: &Path) -> Result<Instance, Error> {
    let arena = Arena::new()?;
    let source = KeySource::File("instance.key".into());
    let instance = make(&Places::within(folder), source, None, PassphraseCost::default(), &arena)?;
    for (name, prefix, length) in [("OPENAI_API_KEY", "sk-demo-", 40), ("SLACK_WEBHOOK", "https://hooks.invalid/", 40)]
    {
        let value = arena.alloc(length)?;
        fill(value)?;
        value.iter_mut().for_each(|byte| *byte = b'a' + *byte % 26);
        value.iter_mut().zip(prefix.bytes()).for_each(|(place, byte)| *place = byte);
        let name: SecretName = context::secret_name(name)?;
        let now = context::now();
        let key = instance.key.read(None, &arena)?;
        context::change(&instance, key, &arena, |vault, contents| {
            let record = contents.entry(name.clone()).or_insert_with(|| Vault::new_record(name.clone(), now));
            let version = vault.add_version(record, value, now)?;
            Ok(Change { event: Event::SECRET_SET, secret: name, version: Some(version) })
        })?;
    }
    write_new(&instance.chains.join("content-pipeline.json"), CHAIN.as_bytes(), 0o600)?;
    std::fs::create_dir(work)?;
    write_new(&work.join("agent.sh"), AGENT.as_bytes(), 0o600)?;
    Ok(instance)
}

fn launch(wrapper: &Path, instance: &Path, work: &Path, agent: &str) -> Result<Option<i32>, Error> {
    let status = Command::new(wrapper)
        .args(["--chain", "content-pipeline", "--agent", agent, "--instance"])
        .arg(instance)
        .args(["--", "sh", "agent.sh"])
        .current_dir(work)
        // As if the caller had exported one: it does not get past the wrapper.
        .env("SLACK_WEBHOOK", "inherited")
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("can't run {}: {error}", wrapper.display()))?;
    Ok(status.code())
}

/// `mentiko-exec` beside this program; under `cargo run`, which builds only one of the two, it is
/// built first.
fn wrapper() -> Result<PathBuf, Error> {
    let program = std::env::current_exe()?;
    let wrapper = program.with_file_name("mentiko-exec");
    if let (Some(cargo), Some(manifest)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
        let profile = program.parent().and_then(Path::file_name).unwrap_or_default();
        let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("target"));
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--bin", "mentiko-exec", "--profile"])
            // The folder of the profile `dev` is called `debug`.
            .arg(if profile == "debug" { "dev".as_ref() } else { profile })
            .arg("--target-dir")
            .arg(target)
            .arg("--manifest-path")
            .arg(Path::new(&manifest).join("Cargo.toml"))
            .status()?;
        if !built.success() {
            return Err("mentiko-exec could not be built".to_owned().into());
        }
    }
    match wrapper.exists() {
        true => Ok(wrapper),
        false => Err(format!("{} is not there; install both programs in one folder", wrapper.display()).into()),
    }
}

/// A folder of this user alone, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("mentiko-quickstart-{}", uuid_v7()?));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
