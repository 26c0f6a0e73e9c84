//! What a search may choose from.

use crate::error::{Error, Result};
use crate::fnv::fnv1a;
use crate::train::hyper::{Hyper, Key, Kind, Setting};
use crate::train::random::Random;

/// What one hyper-parameter is drawn from. Counts are rounded to whole numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// Each number between two alike.
    Uniform {
        /// The least.
        from: f64,
        /// The largest.
        to: f64,
    },
    /// Each order of magnitude between two alike.
    LogUniform {
        /// The least, above 0.
        from: f64,
        /// The largest.
        to: f64,
    },
    /// Each value of a list alike.
    Choice(Vec<Setting>),
}

/// Hyper-parameters with what each is drawn from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space(Vec<(&'static Key, Domain)>);

impl Space {
    /// Nothing is searched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a hyper-parameter, or replaces its domain.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a name that there is not and for a domain that is empty, upside down or outside of the
    /// hyper-parameter's range.
    pub fn add(&mut self, name: &str, domain: Domain) -> Result<()> {
        let Some(key) = Key::find(name) else {
            // The same error as for a value.
            return Hyper::new().set(name, Setting::Number(0.0));
        };
        match &domain {
            Domain::Choice(list) if list.is_empty() => {
                return Err(Error::bad_input(format!("'{name}' has nothing to choose from")));
            }
            Domain::Choice(list) => list.iter().try_for_each(|setting| key.check(setting))?,
            Domain::Uniform { from, to } | Domain::LogUniform { from, to } => {
                let wants_positive = matches!(domain, Domain::LogUniform { .. });
                if from.is_nan() || to.is_nan() || from > to || (wants_positive && *from <= 0.0) {
                    let log = if wants_positive { "; a logarithmic range starts above 0" } else { "" };
                    return Err(Error::bad_input(format!("'{name}' cannot be drawn from {from} to {to}{log}"))
                        .with_help("`from` is the smaller end"));
                }
                key.check(&Setting::Number(*from))?;
                key.check(&Setting::Number(*to))?;
            }
        }
        self.0.retain(|(other, _)| other.name != name);
        self.0.push((key, domain));
        Ok(())
    }

    /// The hyper-parameters that are drawn.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|(key, _)| key.name)
    }

    /// Whether nothing is searched.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The draw of a trial. Each hyper-parameter has a stream of its own, so that adding one does not change the others.
    pub fn sample(&self, seed: u64, trial: u64) -> Hyper {
        let mut hyper = Hyper::new();
        for (key, domain) in &self.0 {
            let mut random = Random::of(Random::of(seed, trial).bits(), fnv1a(key.name));
            let setting = domain.draw(key, &mut random);
            // Domains lie within the ranges of their keys, and rounding to a whole number does not leave a range of whole ends.
            debug_assert!(key.check(&setting).is_ok(), "{}: {setting:?}", key.name);
            let _ = hyper.set(key.name, setting);
        }
        hyper
    }
}

impl Domain {
    fn draw(&self, key: &Key, random: &mut Random) -> Setting {
        let whole = key.kind == Kind::Count;
        match self {
            Self::Choice(list) => list[random.below(list.len())].clone(),
            // One more than the width of the range, so that both ends are as likely as the rest.
            Self::Uniform { from, to } if whole => {
                Setting::Number(from + random.below((to - from) as usize + 1) as f64)
            }
            Self::Uniform { from, to } => Setting::Number((from + (to - from) * random.unit()).clamp(*from, *to)),
            Self::LogUniform { from, to } => {
                let x = (from.ln() + (to.ln() - from.ln()) * random.unit()).exp().clamp(*from, *to);
                Setting::Number(if whole { x.round() } else { x })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(from: f64, to: f64) -> Domain {
        Domain::LogUniform { from, to }
    }

    #[test]
    fn draws_stay_inside_and_are_spread() {
        let mut space = Space::new();
        space.add("learning_rate", log(1e-4, 1e-1)).expect("a range");
        space.add("momentum", Domain::Uniform { from: 0.5, to: 0.9 }).expect("a range");
        space.add("batch", Domain::Uniform { from: 3.0, to: 5.0 }).expect("a range");
        let widths = [vec![8], vec![16, 16]].map(Setting::Widths);
        space.add("hidden", Domain::Choice(widths.to_vec())).expect("a list");
        let drawn: Vec<Hyper> = (0..3000).map(|trial| space.sample(9, trial)).collect();
        let rates: Vec<f64> = drawn.iter().map(|h| h.number("learning_rate")).collect();
        assert!(rates.iter().all(|r| (1e-4..=1e-1).contains(r)));
        // A third for each decade, within five standard errors: 5 sqrt(2/9 / 3000).
        let slow = rates.iter().filter(|&&r| r < 1e-3).count() as f64 / 3000.0;
        assert!((slow - 1.0 / 3.0).abs() < 0.043, "{slow}");
        for batch in [3, 4, 5] {
            assert!(drawn.iter().filter(|h| h.count("batch") == batch).count() > 850);
        }
        assert!(
            drawn
                .iter()
                .all(|h| (0.5..=0.9).contains(&h.number("momentum")) && [1, 2].contains(&h.widths("hidden").len()))
        );
    }

    #[test]
    fn a_draw_depends_on_seed_trial_and_name_alone() {
        let mut small = Space::new();
        small.add("learning_rate", log(1e-4, 1e-1)).expect("a range");
        let mut large = Space::new();
        large.add("momentum", Domain::Uniform { from: 0.0, to: 0.5 }).expect("a range");
        large.add("learning_rate", log(1e-4, 1e-1)).expect("a range");
        let rate = |space: &Space, seed, trial| space.sample(seed, trial).number("learning_rate");
        assert_eq!(rate(&small, 1, 5), rate(&large, 1, 5));
        assert_ne!(rate(&small, 1, 5), rate(&small, 1, 6));
        assert_ne!(rate(&small, 1, 5), rate(&small, 2, 5));
    }

    #[test]
    fn domains_that_cannot_be_are_refused() {
        let mut space = Space::new();
        assert!(space.add("learning_rate", log(0.0, 1.0)).is_err());
        assert!(space.add("learning_rate", log(1.0, 0.1)).is_err());
        assert!(space.add("momentum", Domain::Uniform { from: 0.0, to: 1.0 }).is_err());
        assert!(space.add("batch", Domain::Uniform { from: 0.5, to: 8.0 }).is_err());
        assert!(space.add("width", Domain::Choice(vec![])).is_err());
        assert!(space.add("learning_rate", Domain::Uniform { from: 0.1, to: f64::INFINITY }).is_err());
        assert_eq!(space.add("momentun", log(0.1, 0.2)).expect_err("no key").help(), Some("did you mean 'momentum'?"));
        assert!(space.is_empty());
    }
}
