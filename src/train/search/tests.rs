//! Searches in a simulated array: a slot trains one unit of resource in one unit of time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn space() -> Space {
    let mut space = Space::new();
    space.add("learning_rate", Domain::LogUniform { from: 1e-4, to: 1e-1 }).expect("a range");
    space
}

const LADDER: Ladder = Ladder { least: 1, most: 81, eta: 3 };

fn asha(limit: usize, seed: u64, early: Early) -> Asha {
    Asha::new(&Hyper::new(), space(), seed, limit, Goal::Minimise, LADDER, early).expect("a search")
}

/// What a simulation came to.
#[derive(Debug, PartialEq)]
struct Ran {
    /// Units of resource that each trial was trained for, and how often it came back from a pause.
    steps: BTreeMap<usize, (u64, usize)>,
    /// Time on the clock, and the sum of what slots were busy.
    clock: u64,
    busy: u64,
}

/// Trains until the search is done; `score` is of trial and resource, `pace` the time that a trial takes for a unit.
fn simulate(
    search: &mut dyn Searcher,
    slots: usize,
    score: impl Fn(usize, u64) -> f64,
    pace: impl Fn(usize) -> u64,
) -> Ran {
    let mut ran = Ran { steps: BTreeMap::new(), clock: 0, busy: 0 };
    // Running trials: when they will be there, number, resource.
    let mut running: Vec<(u64, usize, u64)> = Vec::new();
    loop {
        let free = slots - running.len();
        let given = search.ask(free);
        assert!(given.len() <= free, "more assignments than free slots");
        for a in given {
            let (steps, resumed) = ran.steps.entry(a.trial).or_default();
            assert_eq!(*steps, a.from, "a trial goes on where it paused");
            *resumed += usize::from(a.from > 0);
            assert!(running.iter().all(|r| r.1 != a.trial), "a trial runs once at a time");
            running.push((ran.clock + (a.until - a.from) * pace(a.trial), a.trial, a.until));
        }
        // The first to arrive; of several the lowest number.
        let Some(place) = (0..running.len()).min_by_key(|&i| (running[i].0, running[i].1)) else {
            assert!(search.is_done(), "nothing runs, nothing was given, and yet the search is not done");
            return ran;
        };
        assert!(!search.is_done());
        let (time, trial, resource) = running.swap_remove(place);
        ran.clock = time;
        let steps = ran.steps.get_mut(&trial).map(|s| &mut s.0).expect("it was given");
        ran.busy += (resource - *steps) * pace(trial);
        *steps = resource;
        if let Decision::Continue { until } = search.tell(trial, score(trial, resource)).expect("it was running") {
            running.push((time + (until - resource) * pace(trial), trial, until));
        }
    }
}

/// A score that is fixed from the start: trials in a scrambled order.
fn scrambled(trial: usize, _: u64) -> f64 {
    ((trial * 37 + 11) % 81) as f64
}

fn reached(ran: &Ran) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    ran.steps.values().for_each(|&(steps, _)| *counts.entry(steps).or_default() += 1);
    counts
}

#[test]
fn halving_of_81_gives_each_rung_a_third() {
    let mut search = SuccessiveHalving::new(&Hyper::new(), space(), 1, 81, Goal::Minimise, LADDER).expect("a search");
    let ran = simulate(&mut search, 81, scrambled, |_| 1);
    assert_eq!(reached(&ran), BTreeMap::from([(1, 54), (3, 18), (9, 6), (27, 2), (81, 1)]));
    // 81 of 1, 27 of 2 more, 9 of 6, 3 of 18, 1 of 54.
    assert_eq!((ran.busy, ran.clock), (81 + 54 + 54 + 54 + 54, 81));
    let best = (0..81).min_by(|&a, &b| scrambled(a, 0).total_cmp(&scrambled(b, 0))).expect("81 trials");
    assert_eq!(search.best(), Some((best, 0.0)));
}

#[test]
fn asha_of_81_keeps_slots_busy_and_finds_the_best() {
    let mut search = asha(81, 1, Early::Pause);
    let ran = simulate(&mut search, 9, scrambled, |_| 1);
    let counts = reached(&ran);
    println!("asha on 9 slots: {counts:?}, {} of {} slot-steps busy", ran.busy, 9 * ran.clock);
    assert!(counts.keys().all(|steps| [1, 3, 9, 27, 81].contains(steps)));
    assert_eq!(search.best().map(|(_, score)| score), Some(0.0));
    every_rung_promoted_its_best(&search);
    // At least as many as whole rungs would have promoted.
    let from = |least: u64| counts.range(least..).map(|(_, n)| n).sum::<usize>();
    assert!(from(3) >= 27 && from(9) >= 9 && from(27) >= 3 && from(81) >= 1, "{counts:?}");
    // The same search on one slot does the same work without pauses in between that a neighbour causes; twice is the same.
    assert_eq!(ran, simulate(&mut asha(81, 1, Early::Pause), 9, scrambled, |_| 1));
    // Until the last trial has started, no slot idles.
    let mut lone = asha(81, 1, Early::Pause);
    let alone = simulate(&mut lone, 1, scrambled, |_| 1);
    assert_eq!(alone.busy, alone.clock);
}

fn every_rung_promoted_its_best(search: &Asha) {
    for rung in &search.trials.rungs[..search.trials.top()] {
        let best = rung.results.iter().filter(|(s, _)| s.is_finite()).take(rung.results.len() / search.eta);
        for (_, trial) in best {
            assert!(rung.promoted.contains(trial), "trial {trial} at {}", rung.resource);
        }
    }
}

#[test]
fn few_trials_still_train_one_to_its_end() {
    for limit in [1, 2, 5, 20, 26, 80] {
        for slots in [1, 4, 16] {
            let mut search = asha(limit, 3, Early::Pause);
            let ran = simulate(&mut search, slots, scrambled, |_| 1);
            let ended = ran.steps.values().filter(|(steps, _)| *steps == LADDER.most).count();
            assert!(ended >= 1, "{limit} trials in {slots} slots: {ran:?}");
        }
    }
}

#[test]
fn a_trial_is_the_same_whatever_the_array() {
    let mut one = asha(20, 5, Early::Pause);
    let mut two = asha(20, 5, Early::Pause);
    let all: Vec<Assignment> = one.ask(20);
    let mut few = two.ask(7);
    few.extend(two.ask(20));
    assert_eq!(all, few);
    assert_eq!((all[3].trial, all[3].from, all[3].until), (3, 0, 1));
    assert_ne!(all[3].hyper, all[4].hyper);
    assert_ne!(all[3].seed, all[4].seed);
}

#[test]
fn what_is_told_wrongly_is_refused() {
    let mut search = asha(3, 5, Early::Pause);
    assert!(search.tell(0, 1.0).is_err());
    assert_eq!(search.ask(1).len(), 1);
    assert_eq!(search.tell(0, f64::NAN).expect("it runs"), Decision::Stop);
    assert!(search.tell(0, 1.0).is_err());
    assert_eq!(search.best(), None);
    for ladder in [(0, 9, 3), (10, 9, 3), (1, 9, 1)] {
        assert!(Ladder { least: ladder.0, most: ladder.1, eta: ladder.2 }.rungs().is_err());
    }
    assert_eq!(Ladder { least: 2, most: 30, eta: 4 }.rungs().expect("rungs"), [2, 8, 30]);
    assert_eq!(Ladder { least: 5, most: 5, eta: 2 }.rungs().expect("one rung"), [5]);
}

#[test]
fn failing_trials_are_stopped_and_lose() {
    let score = |trial, _| if trial % 2 == 0 { f64::NAN } else { trial as f64 };
    let mut search = asha(27, 2, Early::Pause);
    let ran = simulate(&mut search, 4, score, |_| 1);
    assert!(ran.steps.iter().all(|(trial, (steps, _))| trial % 2 == 1 || *steps == 1));
    assert_eq!(search.best(), Some((1, 1.0)));
    let mut all = asha(9, 2, Early::Pause);
    simulate(&mut all, 4, |_, _| f64::NAN, |_| 1);
    assert_eq!(all.best(), None);
    let mut halving = SuccessiveHalving::new(&Hyper::new(), space(), 1, 9, Goal::Minimise, LADDER).expect("a search");
    simulate(&mut halving, 4, |_, _| f64::INFINITY, |_| 1);
    assert_eq!(halving.best(), None);
}

#[test]
fn random_search_trains_all_to_the_end_and_higher_can_be_better() {
    let mut search = RandomSearch::new(&Hyper::new(), space(), 1, 10, Goal::Maximise, 7);
    let ran = simulate(&mut search, 3, |trial, _| trial as f64, |_| 1);
    assert_eq!(reached(&ran), BTreeMap::from([(7, 10)]));
    assert_eq!(search.best(), Some((9, 9.0)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the slots, scores and paces: the simulation's own assertions hold, all trials start, and rungs keep their best.
    #[test]
    fn asha_in_any_array(slots in 1usize..30, limit in 1usize..60, salt in 0u64..1000, stop in any::<bool>()) {
        let number = |trial: usize, r: u64| super::super::random::Random::of(salt ^ r, trial as u64).unit();
        let pace = |trial: usize| 1 + (number(trial, 7) * 5.0) as u64;
        let early = if stop { Early::Stop } else { Early::Pause };
        let mut search = asha(limit, salt, early);
        let ran = simulate(&mut search, slots, number, pace);
        prop_assert_eq!(ran.steps.len(), limit);
        if stop {
            prop_assert!(ran.steps.values().all(|&(_, resumed)| resumed == 0), "what stops does not come back");
        } else {
            every_rung_promoted_its_best(&search);
            // Nobody goes on who was never among the best, but for one who goes on alone in the end.
            for rung in &search.trials.rungs {
                prop_assert!(rung.promoted.len() <= 1 || rung.results.len() >= 3);
            }
        }
    }

    /// Whole rungs keep exactly one of eta, whatever the slots.
    #[test]
    fn halving_in_any_array(slots in 1usize..30, limit in 1usize..60, salt in 0u64..1000) {
        let number = |trial: usize, r: u64| super::super::random::Random::of(salt ^ r, trial as u64).unit();
        let mut search = SuccessiveHalving::new(&Hyper::new(), space(), salt, limit, Goal::Minimise, LADDER).expect("a search");
        simulate(&mut search, slots, number, |_| 1);
        let counts: Vec<usize> = search.trials.rungs.iter().map(|r| r.results.len()).collect();
        prop_assert_eq!(counts[0], limit);
        for pair in counts.windows(2) {
            prop_assert_eq!(pair[1], (pair[0] / 3).max(1));
        }
        for (below, above) in search.trials.rungs.iter().zip(&search.trials.rungs[1..]) {
            let mut best: Vec<usize> = below.results[..above.results.len()].iter().map(|r| r.1).collect();
            let mut went: Vec<usize> = above.results.iter().map(|r| r.1).collect();
            best.sort_unstable();
            went.sort_unstable();
            prop_assert_eq!(best, went);
        }
    }
}
