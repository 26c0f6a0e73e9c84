//! What a long command is doing now: a bar on a terminal, a line now and then elsewhere, nothing with `--quiet`.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wavehull::Control;
use wavehull::gpu::{Progress, ProgressSink};

use super::Global;

/// Time between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Shows the progress of one command on stderr.
pub struct Bar {
    global: Global,
    /// Hidden unless stderr is a terminal.
    bar: ProgressBar,
    /// When the last line was printed, where lines are.
    lines: Option<Mutex<Instant>>,
    done: AtomicU64,
    total: u64,
    /// What the command is doing, in its own words.
    phase: Mutex<String>,
}

impl Bar {
    /// Shows phases only.
    pub fn phases(global: &Global) -> Arc<Self> {
        Self::new(global, 0, "{spinner} {msg} ({elapsed})")
    }

    /// Shows phases, and how many of `total` are done.
    pub fn counting(global: &Global, total: usize) -> Arc<Self> {
        Self::new(global, total as u64, "{bar:24} {pos}/{len} {msg} ({elapsed})")
    }

    fn new(global: &Global, total: u64, template: &str) -> Arc<Self> {
        let terminal = std::io::stderr().is_terminal();
        let shown = terminal && !global.quiet;
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        let lines = (!terminal && !global.quiet).then(|| Mutex::new(Instant::now()));
        Arc::new(Self { global: global.clone(), bar, lines, done: AtomicU64::new(0), total, phase: Mutex::default() })
    }

    /// A control that reports here and stops with Ctrl-C.
    pub fn control(self: &Arc<Self>) -> Control {
        let sink: Arc<dyn ProgressSink> = self.clone();
        Control { cancel: self.global.cancel.clone(), progress: Some(sink) }
    }

    /// Counts one more as done.
    pub fn advance(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(1);
    }

    /// Says what is being done now.
    pub fn phase(&self, text: &str) {
        self.bar.set_message(text.to_owned());
        text.clone_into(&mut locked(&self.phase));
    }

    /// A line of news: above the bar on a terminal, a plain line elsewhere.
    pub fn note(&self, line: &str) {
        if self.bar.is_hidden() {
            self.global.say(line);
        } else {
            self.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}

impl ProgressSink for Bar {
    fn update(&self, progress: Progress<'_>) {
        let Progress { phase, done, total, unit } = progress;
        let mut text = format!("{phase} {done}/{total} {unit}");
        let wider = locked(&self.phase);
        if !wider.is_empty() {
            text = format!("{wider}: {text}");
        }
        self.bar.set_message(text.clone());
        let Some(last) = &self.lines else { return };
        let mut last = locked(last);
        if last.elapsed() >= BETWEEN_LINES {
            *last = Instant::now();
            if self.total > 0 {
                text = format!("{}/{} {text}", self.done.load(Ordering::Relaxed), self.total);
            }
            self.global.say(text);
        }
    }
}
