//! What the person at the terminal sees while things start: one line per step, bars while fetching.
//!
//! On a terminal a line in progress is overwritten; elsewhere every line is printed once.

use std::{
    io::{IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

// How often a line in progress is printed where it cannot be overwritten.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

use indicatif::{ProgressBar, ProgressStyle};
use local_services::provision::{Progress, Unit, Update};

#[derive(Default)]
pub struct Say {
    // The unfinished line, so that it is neither repeated nor left behind, and when one was last printed.
    waiting: Mutex<(String, Option<Instant>)>,
}

impl Say {
    pub fn step(&self, text: &str) {
        self.line(&format!("· {text}"));
    }

    pub fn ready(&self, service: &str) {
        self.line(&format!("✓ {service}"));
    }

    pub fn stopping(&self, what: &str) {
        self.line(&format!("· draining {what}"));
    }

    /// A line that the next one replaces.
    pub fn waiting(&self, text: &str) {
        let Ok(mut last) = self.waiting.lock() else {
            return;
        };
        let terminal = std::io::stderr().is_terminal();
        let soon = last.1.is_some_and(|then| then.elapsed() < PLAIN_EVERY);
        if last.0 == text || (soon && !terminal) {
            return;
        }
        *last = (text.to_owned(), Some(Instant::now()));
        let mut out = std::io::stderr().lock();
        let _ = if terminal {
            write!(out, "\r\x1b[2K  waiting for {text}")
        } else {
            writeln!(out, "  waiting for {text}")
        };
        let _ = out.flush();
    }

    pub fn line(&self, text: &str) {
        let Ok(mut last) = self.waiting.lock() else {
            return;
        };
        let mut out = std::io::stderr().lock();
        if !last.0.is_empty() && std::io::stderr().is_terminal() {
            let _ = write!(out, "\r\x1b[2K");
        }
        last.0.clear();
        let _ = writeln!(out, "{text}");
    }

    /// A bar on a terminal; elsewhere a line at every tenth.
    pub fn provisioning(&self) -> Progress {
        let bar: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);
        let said: Mutex<(String, u64)> = Mutex::new((String::new(), 0));
        Progress::new(move |update| {
            if std::io::stderr().is_terminal() {
                if let Ok(mut bar) = bar.lock() {
                    draw(&mut bar, &update);
                }
            } else if let Ok(mut said) = said.lock() {
                print_tenths(&mut said, &update);
            }
        })
    }
}

fn draw(bar: &mut Option<(String, ProgressBar)>, update: &Update<'_>) {
    if bar.as_ref().is_none_or(|(what, _)| what != update.what) {
        let template = match update.unit {
            Unit::Bytes => "  {msg} [{bar:30}] {bytes}/{total_bytes} {eta}",
            Unit::Files => "  {msg} [{bar:30}] {pos}/{len} files",
            Unit::Percent => "  {msg} [{bar:30}] {pos} %",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("█▌ ");
        let new = ProgressBar::new(update.total).with_style(style);
        new.set_message(update.what.to_owned());
        if let Some((_, old)) = bar.replace((update.what.to_owned(), new)) {
            old.finish_and_clear();
        }
    }
    if let Some((_, bar)) = bar {
        bar.set_position(update.done);
    }
}

fn print_tenths(said: &mut (String, u64), update: &Update<'_>) {
    let tenth = if update.total == 0 {
        0
    } else {
        update.done.min(update.total) * 10 / update.total
    };
    if said.0 != update.what {
        *said = (update.what.to_owned(), 0);
        eprintln!("· {}", update.what);
    }
    if tenth > said.1 {
        said.1 = tenth;
        eprintln!("  {} {} %", update.what, tenth * 10);
    }
}
