//! What torch found of each member, and the members' hyper-parameters.

use wavehull::train::{Member, Optimiser, Schedule};

use crate::{STEPS, torch};

/// What torch found of a member.
#[derive(Debug)]
pub struct Wanted {
    pub member: String,
    pub losses: Vec<f64>,
    pub noise: Vec<f64>,
    /// Loss, its noise, share of right ones.
    pub evaluation: [f64; 3],
    /// How far each went (norm, and product with numbers of its own), and torch's noise.
    pub tensors: Vec<(String, [f64; 3])>,
}

fn three(words: &[&str]) -> [f64; 3] {
    std::array::from_fn(|i| words[i].parse().unwrap())
}

pub fn wanted(name: &str) -> Vec<Wanted> {
    let text = torch::fixture(&format!("steps_{name}"));
    let mut all: Vec<Wanted> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, rest) = line.split_once(' ').unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        if key == "member" {
            let (losses, noise, tensors) = (Vec::new(), Vec::new(), Vec::new());
            all.push(Wanted { member: rest.to_owned(), losses, noise, evaluation: [0.0; 3], tensors });
            continue;
        }
        let last = all.last_mut().unwrap();
        let list = || words.iter().map(|word| word.parse().unwrap()).collect();
        match key {
            "losses" => last.losses = list(),
            "noise" => last.noise = list(),
            "evaluation" => last.evaluation = three(&words),
            _ => last.tensors.push((words[0].to_owned(), three(&words[1..]))),
        }
    }
    all
}

fn sgd(momentum: f64, weight_decay: f64) -> Optimiser {
    Optimiser::Sgd { momentum, dampening: 0.0, nesterov: false, weight_decay }
}

/// The script's `MEMBERS`.
pub fn member(name: &str) -> Member {
    let cosine = Schedule::Cosine { steps: STEPS as u64, least: 1e-4 };
    let warm_up = Schedule::WarmUp { steps: 5, then: Box::new(Schedule::Constant) };
    let (learning_rate, optimiser, schedule, clip) = match name {
        "sgd" => (0.1, sgd(0.0, 0.0), Schedule::Constant, None),
        "sgd_decay" => (0.1, sgd(0.0, 0.05), Schedule::Constant, None),
        "momentum" => (0.05, sgd(0.9, 0.0), Schedule::Constant, None),
        "dampening" => {
            let optimiser = Optimiser::Sgd { momentum: 0.8, dampening: 0.5, nesterov: false, weight_decay: 0.0 };
            (0.1, optimiser, Schedule::Constant, None)
        }
        "nesterov" => {
            let optimiser = Optimiser::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true, weight_decay: 0.01 };
            (0.05, optimiser, Schedule::Constant, None)
        }
        "clip" => (0.3, sgd(0.5, 0.0), Schedule::Constant, Some(0.3)),
        "steps" => (0.2, sgd(0.0, 0.0), Schedule::Step { every: 6, factor: 0.5 }, None),
        "cosine" => (0.05, sgd(0.9, 0.0), cosine, None),
        "warm_up" => (0.2, sgd(0.0, 0.0), warm_up, None),
        "one_cycle" => (0.3, sgd(0.0, 0.0), Schedule::OneCycle { steps: STEPS as u64 }, None),
        "adam" => (0.003, Optimiser::adam(), Schedule::Constant, None),
        "adam_decay" => {
            let optimiser = Optimiser::Adam { beta1: 0.8, beta2: 0.95, eps: 1e-8, weight_decay: 0.05 };
            (0.003, optimiser, Schedule::Constant, None)
        }
        "adam_w" => {
            let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.5 };
            (0.003, optimiser, Schedule::Constant, None)
        }
        "adam_w_all" => {
            let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.98, eps: 1e-6, weight_decay: 0.1 };
            (0.005, optimiser, cosine, Some(0.5))
        }
        "rms_prop" => (0.001, Optimiser::rms_prop(), Schedule::Constant, None),
        "rms_prop_all" => {
            let optimiser = Optimiser::RmsProp { alpha: 0.9, eps: 1e-6, momentum: 0.5, weight_decay: 0.05 };
            (0.001, optimiser, warm_up, Some(0.5))
        }
        "paper" => (0.0005, sgd(0.9, 5e-4), cosine, None),
        "steep" => (0.01, sgd(0.9, 5e-4), Schedule::Constant, None),
        "plain" => (0.002, sgd(0.0, 0.0), Schedule::Constant, None),
        "gpt" => {
            let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
            (0.002, optimiser, warm_up, Some(1.0))
        }
        _ => panic!("no member '{name}'"),
    };
    Member { seed: 5, optimiser, learning_rate, schedule, clip, certify: None, steps: None }
}
