//! Blocks of steps on their way through the device: it works on one while the host has the next ready and counts the results of the one before.

use std::collections::VecDeque;

use super::part::KernelTimes;
use super::{Occupant, TrainingArray};
use crate::error::{Error, Result};
use crate::gpu::{Control, Flight, ReadTicket};
use crate::train::member::{Progress, State};

/// Steps on their way through the device, and where each sub-array's results come out.
struct Block {
    turns: usize,
    parts: Vec<(usize, Flight, ReadTicket)>,
}

/// Blocks on their way at once: the device works on one while the host counts the results of the one before.
const IN_FLIGHT: usize = 2;

impl TrainingArray {
    /// What `run` and `profile` do.
    pub(super) async fn steps(
        &mut self,
        steps: u64,
        control: &Control,
        sink: &mut (dyn FnMut(Progress) + Send),
        mut times: Option<&mut KernelTimes>,
    ) -> Result<()> {
        self.check_ages()?;
        self.check_whole()?;
        let most = if times.is_some() { 1 } else { IN_FLIGHT };
        let mut flying: VecDeque<Block> = VecDeque::new();
        let mut left = steps;
        loop {
            while left > 0 && flying.len() < most && !control.cancel.is_cancelled() {
                let ahead = flying.iter().map(|block| block.turns as u64).sum();
                if !self.has_work(ahead) {
                    break;
                }
                let turns = left.min(self.shared.options.turns as u64) as usize;
                match self.submit(turns, ahead, times.is_some()).await {
                    Ok(block) => flying.push_back(block),
                    Err(error) => {
                        // What was submitted before has run, and members are as old as that.
                        for block in flying {
                            self.land(block, None).await?;
                        }
                        return Err(error);
                    }
                }
                left -= turns as u64;
            }
            let Some(block) = flying.pop_front() else { break };
            let found = self.land(block, times.as_deref_mut()).await?;
            for progress in found {
                sink(progress);
            }
        }
        if left > 0 && self.has_work(0) { control.cancel.check() } else { Ok(()) }
    }

    /// Whether anybody has steps to do beyond those that are on their way.
    fn has_work(&self, ahead: u64) -> bool {
        let wants = |o: &Occupant| o.member.steps.is_none_or(|steps| o.step + ahead < steps);
        self.occupants.iter().flatten().any(|o| o.state == State::Running && wants(o))
    }

    /// An error in the middle of a block leaves tables that are older than their members, and nothing can be done with those.
    pub(super) fn check_whole(&self) -> Result<()> {
        self.shared.gpu.check_alive()?;
        if self.torn {
            return Err(Error::bad_input("an array of which an earlier error left half of a step")
                .with_help("make another array and restore its members from their snapshots"));
        }
        Ok(())
    }

    async fn submit(&mut self, turns: usize, ahead: u64, profile: bool) -> Result<Block> {
        let most = self.shared.plan_slots();
        let mut parts = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            let first = index * most;
            let occupants = &self.occupants[first..first + part.slots()];
            if occupants.iter().flatten().any(|o| o.state == State::Running) {
                match part.submit(&self.shared, occupants, (turns, ahead), profile).await {
                    Ok((flight, ticket)) => parts.push((index, flight, ticket)),
                    Err(error) => {
                        self.torn = !parts.is_empty();
                        return Err(error);
                    }
                }
            }
        }
        Ok(Block { turns, parts })
    }

    /// Waits for a block and counts its steps: what there is to tell, in order of steps.
    async fn land(&mut self, block: Block, mut times: Option<&mut KernelTimes>) -> Result<Vec<Progress>> {
        let mut found = Vec::with_capacity(block.parts.len());
        for (index, flight, ticket) in block.parts {
            let landed = self.parts[index].land(flight, ticket, block.turns).await;
            self.torn |= landed.is_err();
            let (results, mut seconds) = landed?;
            if let Some(times) = &mut times {
                times.append(&mut seconds);
            }
            found.push((index * self.shared.plan_slots(), results));
        }
        let mut told = Vec::new();
        for turn in 0..block.turns {
            for (first, results) in &found {
                let places = results[turn].iter().enumerate();
                told.extend(places.filter_map(|(place, result)| self.account(first + place, result)));
            }
        }
        Ok(told)
    }

    /// One order of samples is one age: a younger member would see other samples than alone.
    fn check_ages(&self) -> Result<()> {
        let ages: Vec<u64> = self.running().filter_map(|slot| self.state(slot)).map(|(_, step)| step).collect();
        match (self.shared.options.shared_order, ages.first()) {
            (Some(_), Some(first)) if ages.iter().any(|age| age != first) => {
                Err(Error::bad_input(format!("members of ages {ages:?} that share one order of samples"))
                    .with_help("start them together, or give each an order of its own (no `shared_order`)"))
            }
            _ => Ok(()),
        }
    }

    /// Counts a step of a slot; what there is to tell of it.
    fn account(&mut self, slot: usize, result: &[f32]) -> Option<Progress> {
        let occupant = self.occupants[slot].as_mut().filter(|o| o.state == State::Running)?;
        occupant.step += 1;
        let &[loss, correct, counted, ..] = result else { return None };
        if !is_finite(loss) {
            occupant.state = State::Diverged;
        } else if occupant.member.steps.is_some_and(|steps| occupant.step >= steps) {
            occupant.state = State::Finished;
        }
        let correct = if counted > 0.0 { correct / counted } else { 0.0 };
        Some(Progress { slot, step: occupant.step, loss, correct })
    }
}

/// Tested by bits: kernels may not be asked about NaN, and the host says the same as they.
fn is_finite(value: f32) -> bool {
    value.to_bits() & 0x7f80_0000 != 0x7f80_0000
}
