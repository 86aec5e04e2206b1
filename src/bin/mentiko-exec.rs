//! `mentiko-exec --chain C --agent A -- COMMAND`: run an agent with the secrets it was granted.

use std::convert::Infallible;
use std::process::ExitCode;

use mentiko_exec::audit::{self, Event, Outcome};
use mentiko_exec::launch::{
    Environment, Failure, Inherited, Masking, Side, Site, Status, Supervised, become_agent, decide, parse, raise,
    relay, resolve, start,
};
use mentiko_exec::memory::{Arena, protect_self};
use mentiko_exec::policy::Definition;

#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: mentiko_exec::memory::LaunchHeap = mentiko_exec::memory::LaunchHeap::new();

fn main() -> ExitCode {
    match launch() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// Returns when no agent runs: after `--help` and `--dry-run`, with the reason of a refusal, or
/// after a supervised agent's end.
fn launch() -> Result<ExitCode, Failure> {
    let Some(arguments) = parse()? else { return Ok(ExitCode::SUCCESS) };
    let core_limit = protect_self(arguments.core_files())?;
    let arena = Arena::new()?;
    let site = Site::open(arguments)?;
    // From here on there is a log, and every refusal is in it.
    match run(&site, &arena, core_limit).map_err(|failure| site.refuse(failure, &arena))? {
        Done::Ended(code) => Ok(code),
        Done::Started(agent) => {
            let site = site.without_key();
            // Whoever waits for the agent holds no secret.
            drop(arena);
            Ok(agent.wait(site))
        }
    }
}

/// How a launch can end in this process, other than as the agent.
enum Done {
    Ended(ExitCode),
    Started(Supervised),
}

fn run<'a>(site: &Site<'a>, arena: &'a Arena, core_limit: u64) -> Result<Done, Failure> {
    let program = resolve(&site.arguments)?;
    let definition = Definition::open(&site.instance.chains, &site.arguments.chain)?;
    let inherited = Inherited::of_this_process(&site.arguments, &definition, &site.instance.key);
    let decided = decide(site, &definition, &inherited, arena)?;
    if site.arguments.dry_run {
        return decided.print(site).map(Done::Ended);
    }
    let (secrets, contents) = decided.open(site.arguments.deliver, arena)?;
    let masking = Masking::prepare(site, &secrets, arena)?;
    let mode = match start(site)? {
        Side::Agent(mode) => mode,
        Side::Supervisor(agent) => return Ok(Done::Started(agent)),
        Side::Masker(agent, plumbing) => return relay(site, agent, plumbing, masking, arena).map(Done::Ended),
    };
    let launched = || -> Result<Infallible, Failure> {
        let fence = raise(site, &program)?;
        site.remember_enclosure(fence.enclosure);
        let entry = site.entry(Event::SECRET_ACCESS, Outcome::Granted, arena.protection());
        let key = site.key().ok_or_else(|| Failure::new(Status::Other, "the key of the access log is not known"))?;
        let recorded = site.log.grant(&entry, &secrets, &key).map_err(|error| match error {
            audit::Error::Unsynced { .. } => site.never_ran(error.into(), arena),
            other => other.into(),
        })?;
        Environment::build(site, inherited, &contents, secrets, &recorded)
            .and_then(|environment| become_agent(site, &program, &environment, arena, &mode, fence, core_limit))
            .map_err(|failure| site.never_ran(failure, arena))
    };
    // Recorded here, while a supervisor still waits at `mode`: then it goes on and wipes the arena,
    // which both share, and with it the key of the log.
    launched().map(|never| match never {}).map_err(|failure| site.refuse(failure, arena).settled())
}
