//! Whether registries still hold what the repository says.
//!
//! In: entries, what a registry holds, and the lock of the last merge. Out: remarks. For a job that runs beside merges: what
//! somebody registered by hand, what a merge did not finish, a level that was lowered.

use std::collections::BTreeMap;

use super::Entry;
use super::gate::status;
use super::held::Held;
use super::lock::{Lock, Locked};
use super::report::{Remark, Report, RuleSet, Severity, Status, Subject};
use crate::schema::client::{Registry, RegistryError};
use crate::schema::compatibility::Level;

/// Compares entries with what a registry holds and with the lock, and adds to the report.
pub async fn compare(
    registry: &Registry,
    entries: &[Entry],
    level: Level,
    lock: Option<&Lock>,
    report: &mut Report,
) -> Result<(), RegistryError> {
    let name = registry.name();
    let mut settled = BTreeMap::new();
    for entry in entries {
        let held = Held::fetch(registry, &entry.subject, Level::None).await?;
        let status = status(entry, &held, &settled);
        let newest = held.newest();
        // What imports a file that has drifted has not drifted for that.
        settled.extend(newest.map(|newest| (entry.subject.clone(), newest.version)));
        let locked = lock.and_then(|lock| {
            lock.subjects.iter().find(|locked| locked.registry == name && locked.subject == entry.subject)
        });
        report.add(Some(name), drifted(entry, &held, status, locked, level));
        report.subjects.push(Subject {
            registry: Some(name.to_owned()),
            subject: entry.subject.clone(),
            kind: entry.kind().as_str(),
            status,
            version: newest.map(|newest| newest.version),
            level: held.level.as_str(),
        });
    }
    report.add(None, []);
    Ok(())
}

fn drifted(entry: &Entry, held: &Held, status: Status, locked: Option<&Locked>, level: Level) -> Vec<Remark> {
    let remark = |rule, reason: String, fix: &str| Remark::about(RuleSet::Drift, rule, &entry.subject, reason, fix);
    let register = "run `iguazu schema register` from the newest commit";
    let newest = held.newest().map_or(0, |newest| newest.version);
    let mut remarks = Vec::new();
    match (status, locked.map(|locked| locked.version)) {
        (Status::New, None) => remarks.push(remark("not_registered", "it is not registered".to_owned(), register)),
        (Status::New, Some(version)) => {
            let reason = format!("version {version} was registered, and the subject is gone from the registry");
            remarks.push(remark(
                "subject_deleted",
                reason,
                "find out who deleted it; registering again gives another id",
            ));
        }
        (Status::Changed, Some(version)) if newest > version => {
            let reason = format!(
                "version {newest} is not what the files say, and was not registered from here: that was {version}"
            );
            let fix = "bring the change into the files, or register from the newest commit to put them on top";
            remarks.push(remark("registered_elsewhere", reason, fix));
        }
        (Status::Changed, Some(version)) if newest < version => {
            let reason = format!("version {version} was registered, and the newest is {newest}");
            remarks.push(remark("version_deleted", reason, "find out who deleted it"));
        }
        (Status::Changed, _) => {
            let reason = format!("the files have changed since version {newest} was registered");
            remarks.push(remark("not_registered", reason, register));
        }
        (Status::Unchanged, Some(version)) if version != newest => {
            let reason = format!("the lock says version {version}, the registry has it as version {newest}");
            let fix = "run `iguazu schema register`, which writes the lock anew";
            remarks.push(Remark { severity: Severity::Warning, ..remark("lock_old", reason, fix) });
        }
        (Status::Unchanged, _) => {}
    }
    if held.level.stricter(level) != held.level {
        let reason = format!("the registry takes what is {} here, the files ask for {level}", held.level);
        let fix = "raise the level of the subject, so that the registry refuses what the gate refuses";
        remarks.push(Remark { severity: Severity::Warning, ..remark("level_low", reason, fix) });
    }
    remarks
}
