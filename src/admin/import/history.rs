//! Where an imported file may still be: in the history of its git repository.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::admin::say;

/// Says on standard error how many commits hold the file, if any do.
pub(super) fn tell(path: &Path) {
    let Ok(path) = path.canonicalize() else { return };
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let Some(root) = folder.ancestors().find(|above| above.join(".git").exists()) else { return };
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        // Of another repository, where this is run from a hook.
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            git.env_remove(variable);
        }
        git.arg("-C").arg(folder).arg("--literal-pathspecs").args(arguments).arg("--").arg(name);
        git.stdin(Stdio::null()).output()
    };
    let shown = path.display();
    let log = match git(&["log", "--all", "--oneline", "--no-show-signature"]) {
        Ok(log) if log.status.success() => String::from_utf8_lossy(&log.stdout).into_owned(),
        Ok(log) => {
            let why = String::from_utf8_lossy(&log.stderr).lines().next().unwrap_or("it failed").to_owned();
            return say(&format!("can't ask git whether {shown} is in its history: {why}"));
        }
        Err(error) => {
            let fault = format!("can't run git ({error})");
            return say(&format!("{fault}: whether {shown} is in the history of {} is unknown", root.display()));
        }
    };
    let newest = log.lines().next().and_then(|line| line.split(' ').next());
    if let Some(newest) = newest {
        let count = log.lines().count();
        let commits =
            if count == 1 { "commit of its git repository holds" } else { "commits of its git repository hold" };
        return say(&format!(
            "{count} {commits} {shown} (newest: {newest}), and removing it does not change them: rotate the values; \
             'mentiko scan --git {}' shows what stands there",
            root.display()
        ));
    }
    if git(&["ls-files", "--error-unmatch"]).is_ok_and(|listed| listed.status.success()) {
        say(&format!("{shown} is in git's index: 'git rm --cached' takes it out before it is committed"));
    }
}
