//! What the screen does, by the functions that the commands call.

use super::Session;
use super::app::{App, Done, Task};
use crate::admin::rotate::{self, Emergency};
use crate::admin::secret::{self, Stored};
use crate::admin::{Error, process, schedule};
use crate::memory::Arena;
use crate::policy::{Scope, SecretName};

/// Does it. The value on the desk is overwritten by its ciphertext, and wiped in any case.
pub(super) fn perform(session: &Session<'_>, app: &mut App<'_>, task: Task) -> Result<Done, Error> {
    let done = attempt(session, app, task);
    app.desk.clear();
    done
}

fn attempt(session: &Session<'_>, app: &mut App<'_>, task: Task) -> Result<Done, Error> {
    let Session { instance, key } = *session;
    let arena = Arena::new()?;
    let message = match task {
        Task::Add(name, metadata) => {
            let value = app.desk.value(name.as_str())?;
            let Stored { version, scope, advice } = secret::store(instance, key, &arena, &name, &metadata, value)?;
            let advice = advice.map_or_else(String::new, |advice| format!("; {advice}"));
            format!("stored {name} version {version}, scope {scope}{}{advice}", unknown(session, &scope))
        }
        Task::Rotate(name) => {
            let value = app.desk.value(name.as_str())?;
            let (version, complaint) = rotate::add_version(instance, key, &arena, &name, value)?;
            let complaint = complaint.map_or_else(String::new, |complaint| format!("; {complaint}"));
            format!("rotated {name} to version {version}; runs that hold an older one keep it{complaint}")
        }
        Task::Scope(name, scope) => {
            secret::set_scope(instance, key, &arena, &name, &scope)?;
            format!("{name}: scope {scope}{}", unknown(session, &scope))
        }
        Task::Schedule(name, schedule) => {
            let due = schedule::set(instance, key, &arena, &name, schedule)?;
            format!("{name}: rotate {schedule}{due}")
        }
        Task::Revoke(name, terminate) => {
            let mut emergency = Emergency::declare(instance, key, &arena, &name, None)?;
            if terminate {
                emergency.terminate();
            }
            return Ok(revoked(&name, &emergency));
        }
    };
    Ok(Done { message, report: None })
}

fn unknown(session: &Session<'_>, scope: &Scope) -> String {
    let names = secret::unknown_chains(&session.instance.chains, scope);
    let names: Vec<String> = names.into_iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!("; not defined yet: {}", names.join(", ")) }
}

/// What was revoked, and who was given it.
fn revoked(name: &SecretName, emergency: &Emergency) -> Done {
    let message = match emergency.revoked.as_slice() {
        [] => format!("{name}: all versions were revoked before"),
        revoked => format!("{name}: revoked {}, wiped from the vault", rotate::versions(revoked)),
    };
    let mut lines = vec![message.clone(), "Launches that need it are refused until r stores a new value.".into()];
    let holders = &emergency.exposure.holders;
    lines.push(String::new());
    lines.push(if holders.is_empty() { "No agent was given it.".into() } else { "It was given to:".into() });
    for holder in holders {
        let state = match holder.held.running.is_empty() {
            true => "not running here".into(),
            false => format!("runs as {}", process::pids(&holder.held.running)),
        };
        lines.push(format!("  {} / {}, version {}: {state}", holder.chain, holder.agent, holder.version));
        lines.push(format!("    run {}", holder.run));
    }
    for process in &emergency.terminated {
        lines.push(format!("Sent SIGTERM to pid {}.", i32::from(*process)));
    }
    for (pid, error) in &emergency.not_terminated {
        lines.push(format!("pid {pid} could not be stopped: {error}"));
    }
    let left: Vec<_> =
        emergency.running().into_iter().filter(|process| !emergency.terminated.contains(process)).collect();
    if !left.is_empty() {
        lines.push(format!("Stop those that still run: kill {}", process::listed(&left, " ")));
    }
    Done { message, report: Some((format!("{name} is revoked"), lines)) }
}
