//! `iguazu check CONFIG`: all problems of a configuration at once.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::config::{self, Config, ControlConfig, IsFor, Problem};
use crate::feed::control;

/// Arguments of `iguazu check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 64 when there is a problem: each is a line `FILE:LINE: KEY: what is wrong` on stderr,
which terminals and editors open at that line. A warning is `FILE:LINE: warning: KEY: …` on stdout,
and the exit code stays 0.
Nothing is connected to; `/ready` of a running proxy says what its clusters and registries lack.

Examples:
  iguazu check /etc/iguazu.toml
  iguazu check --explain linger_ms          what it is, its bounds and default, and if a change
                                            needs a restart
  iguazu check --settings > settings.md")]
pub struct Args {
    /// The configuration file, of a proxy or of the management plane
    #[arg(value_name = "CONFIG", required_unless_present_any = ["explain", "settings"])]
    config: Option<PathBuf>,
    /// Explain a setting instead, by its key or the end of it
    #[arg(long, value_name = "KEY", conflicts_with_all = ["config", "settings"])]
    explain: Option<String>,
    /// Print the reference of all settings instead, as Markdown
    #[arg(long, conflicts_with = "config")]
    settings: bool,
}

/// Runs it.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if let Some(key) = &args.explain {
        return Ok(write!(out, "{}", config::explain(key).map_err(Failure::Usage)?)?);
    }
    if args.settings {
        return Ok(write!(out, "{}", config::reference())?);
    }
    drop(out);
    check(&args.config.expect("it is required where nothing else is asked for"))
}

fn check(file: &Path) -> Result<(), Failure> {
    let is_for = config::is_for(file);
    if is_for != IsFor::Proxy {
        let loaded = config::load_control(file);
        let ControlConfig { clusters, warnings, .. } = loaded.map_err(|found| problems(file, found))?;
        let managed = counted(clusters.len(), "cluster", "clusters");
        tell(file, &warnings, &format!("ok, the management plane of {managed}"))?;
    }
    if is_for != IsFor::Control {
        let config = load(file)?;
        tell(file, &config.warnings, &summary(&config))?;
    }
    Ok(())
}

fn tell(path: &Path, warnings: &[Problem], summary: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for warning in warnings {
        writeln!(out, "{}", located(path, "warning: ", warning))?;
    }
    writeln!(out, "{}: {summary}", path.display())
}

/// Reads a configuration; a [`Failure::Usage`] names all its problems, one a line.
pub fn load(path: &Path) -> Result<Config, Failure> {
    config::load(path).map_err(|found| problems(path, found))
}

/// [`load`], and the routes that the control plane gave its proxy, where they come from one.
pub fn load_with_routes(path: &Path) -> Result<Config, Failure> {
    let config = load(path)?;
    control::with_last_good(config).map_err(|problem| Failure::Usage(format!("{}: {problem}", path.display())))
}

/// All problems of a file, one a line.
pub fn problems(path: &Path, problems: Vec<Problem>) -> Failure {
    if let [Problem { line: 0, key, message }] = &problems[..]
        && key.is_empty()
    {
        // It cannot be read at all, and the message names it.
        return Failure::Usage(message.clone());
    }
    let located = problems.iter().map(|problem| located(path, "", problem));
    let count = counted(problems.len(), "problem", "problems");
    let lines: Vec<_> = std::iter::once(format!("{count} in {}", path.display())).chain(located).collect();
    Failure::Usage(lines.join(
        "
",
    ))
}

/// `FILE:LINE: KEY: what is wrong`, without what is not known.
fn located(path: &Path, kind: &str, problem: &Problem) -> String {
    let Problem { line, key, message } = problem;
    let line = if *line == 0 { String::new() } else { format!(":{line}") };
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    format!("{}{line}: {kind}{key}{message}", path.display())
}

fn summary(config: &Config) -> String {
    let clusters = counted(config.clusters.len(), "cluster", "clusters");
    let registries = counted(config.registries.len(), "registry", "registries");
    if let Some(routes) = &config.routes {
        let control = routes.urls.join(", ");
        return format!(
            "ok, {clusters}, {registries}; event types and senders come from the control plane at {control}"
        );
    }
    let events = counted(config.events.len(), "event type", "event types");
    let senders = counted(config.senders.len(), "sender", "senders");
    format!("ok, {events}, {clusters}, {registries}, {senders}")
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_where_an_editor_opens_it() {
        let check = |line, key: &str, kind, expected: &str| {
            let problem = Problem { line, key: key.to_owned(), message: "is wrong".to_owned() };
            assert_eq!(located(Path::new("a/b.toml"), kind, &problem), expected);
        };
        check(7, "http.listen", "", "a/b.toml:7: http.listen: is wrong");
        check(7, "", "", "a/b.toml:7: is wrong");
        check(0, "clusters", "", "a/b.toml: clusters: is wrong");
        check(7, "http.listen", "warning: ", "a/b.toml:7: warning: http.listen: is wrong");
    }

    #[test]
    fn counts_read_as_english() {
        assert_eq!(counted(0, "registry", "registries"), "0 registries");
        assert_eq!(counted(1, "registry", "registries"), "1 registry");
    }
}
