//! f32 arithmetic as bad as WGSL allows: either neighbour, any order, fused or not, flushed or not.

use crate::common::Random;

/// Which neighbour a result becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Nearest,
    Random,
    Up,
    Down,
}

/// The places where a direction can differ from that of all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    Interval,
    Lines,
    Relax,
    /// The sums of x and y, the constant.
    Constants,
    /// The sums of z, the error.
    Costs,
    /// The sum of w and the bound.
    Bounds,
    Product,
}

/// One way to round, order and flush.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub everywhere: Direction,
    pub special: Option<(Site, Direction)>,
    /// Sums in random order and shape; otherwise in the order of their terms, positive ones first.
    pub shuffle: bool,
    /// Positive terms of an ordered sum first.
    pub sorted: bool,
    /// An ordered sum from its last term to its first.
    pub reversed: bool,
    /// Subnormals become 0 always (`Random`: by chance).
    pub flush: bool,
    pub seed: u64,
}

impl Policy {
    pub const NEAREST: Self = Self {
        everywhere: Direction::Nearest,
        special: None,
        shuffle: false,
        sorted: false,
        reversed: false,
        flush: false,
        seed: 1,
    };

    pub fn random(seed: u64) -> Self {
        Self { everywhere: Direction::Random, shuffle: true, flush: true, seed, ..Self::NEAREST }
    }
}

pub struct Arithmetic {
    policy: Policy,
    random: Random,
    /// Where the next operations stand.
    pub site: Site,
}

impl Arithmetic {
    pub fn new(policy: Policy) -> Self {
        Self { policy, random: Random::new(policy.seed), site: Site::Interval }
    }

    /// A neighbour of `value + rest`, where `rest` is far below `value`.
    fn round(&mut self, value: f64, rest: f64) -> f32 {
        let near = value as f32;
        let off = f64::from(near) - value - rest;
        let (low, high) = match off {
            0.0 => (near, near),
            _ if off > 0.0 => (near.next_down(), near),
            _ => (near, near.next_up()),
        };
        let special = self.policy.special.filter(|s| s.0 == self.site).map(|s| s.1);
        let result = match special.unwrap_or(self.policy.everywhere) {
            Direction::Nearest => near,
            Direction::Random if self.random.coin() => low,
            Direction::Random | Direction::Up => high,
            Direction::Down => low,
        };
        self.flushed(result)
    }

    fn flushed(&mut self, x: f32) -> f32 {
        let random = self.policy.everywhere == Direction::Random;
        if x.is_subnormal() && self.policy.flush && (!random || self.random.coin()) { 0.0 } else { x }
    }

    pub fn add(&mut self, a: f32, b: f32) -> f32 {
        let (a, b) = (f64::from(self.flushed(a)), f64::from(self.flushed(b)));
        let (sum, rest) = two_sum(a, b);
        self.round(sum, rest)
    }

    pub fn sub(&mut self, a: f32, b: f32) -> f32 {
        self.add(a, -b)
    }

    pub fn mul(&mut self, a: f32, b: f32) -> f32 {
        let product = f64::from(self.flushed(a)) * f64::from(self.flushed(b));
        self.round(product, 0.0)
    }

    fn fma(&mut self, a: f32, b: f32, c: f32) -> f32 {
        let product = f64::from(self.flushed(a)) * f64::from(self.flushed(b));
        let (sum, rest) = two_sum(product, f64::from(self.flushed(c)));
        self.round(sum, rest)
    }

    /// 2.5 units in the last place, as WGSL has it.
    pub fn div(&mut self, a: f32, b: f32) -> f32 {
        let quotient = self.round(f64::from(a) / f64::from(b), 0.0);
        let ulp = f64::from(quotient.next_up()) - f64::from(quotient);
        let shift = match self.policy.everywhere {
            Direction::Random => self.random.below(3) as f64 - 1.0,
            _ => 0.0,
        };
        self.round(f64::from(quotient) + shift * ulp, 0.0)
    }

    /// A sum in any order.
    pub fn sum(&mut self, terms: &[f32]) -> f32 {
        let mut terms = terms.to_vec();
        if self.policy.reversed {
            terms.reverse();
        }
        if self.policy.sorted {
            terms.sort_by_key(|&t| t < 0.0);
        }
        if self.policy.shuffle {
            self.random.shuffle(&mut terms);
            while terms.len() > 1 {
                let first = terms.swap_remove(self.random.below(terms.len()));
                let at = self.random.below(terms.len());
                terms[at] = self.add(first, terms[at]);
            }
            return terms.first().copied().unwrap_or(0.0);
        }
        terms.into_iter().reduce(|a, b| self.add(a, b)).unwrap_or(0.0)
    }

    /// A sum of products in any order, fused or not.
    pub fn dot(&mut self, pairs: &[(f32, f32)]) -> f32 {
        if self.policy.shuffle && self.random.coin() {
            let products: Vec<f32> = pairs.iter().map(|&(a, b)| self.mul(a, b)).collect();
            return self.sum(&products);
        }
        let mut pairs = pairs.to_vec();
        if self.policy.sorted {
            pairs.sort_by_key(|&(a, b)| a * b < 0.0);
        }
        if self.policy.shuffle {
            self.random.shuffle(&mut pairs);
        }
        pairs.into_iter().fold(0.0, |sum, (a, b)| self.fma(a, b, sum))
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let back = sum - a;
    (sum, (a - (sum - back)) + (b - back))
}
