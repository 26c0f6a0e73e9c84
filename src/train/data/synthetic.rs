//! Sets made by a formula, for measurements of speed and for tests. Nothing said about learning on them carries over to real data.

use ndarray::{Array2, ArrayD, IxDyn};

use super::{Dataset, Inputs, Targets};
use crate::error::{Error, Result};
use crate::train::random::Random;

/// Names of the solids of [`point_clouds`], in the order of their labels.
pub const SOLIDS: [&str; 8] = ["sphere", "cube", "cylinder", "cone", "torus", "disc", "helix", "cross"];

/// Clouds of points around one centre a class: `samples` of `features` numbers. Centres are drawn from a normal distribution with
/// deviation `apart`, points from one with deviation 1 around theirs; classes take turns.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] if a size is 0.
pub fn blobs(samples: usize, features: usize, classes: usize, apart: f64, seed: u64) -> Result<Dataset> {
    nothing_is_zero(&[samples, features, classes])?;
    let mut random = Random::new(seed);
    let centres = Array2::from_shape_simple_fn((classes, features), || apart * random.normal());
    let numbers =
        Array2::from_shape_fn((samples, features), |(i, j)| (centres[[i % classes, j]] + random.normal()) as f32);
    Dataset::new(Inputs::F32(numbers.into_dyn()), turns(samples, classes))
}

/// Images of bytes `[samples, side, side, channels]`: noise with a bright square whose place says the class.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] if a size is 0.
pub fn images(samples: usize, side: usize, channels: usize, classes: usize, seed: u64) -> Result<Dataset> {
    nothing_is_zero(&[samples, side, channels, classes])?;
    let mut random = Random::new(seed);
    // Places on a grid of as many cells as there are classes, or a few more.
    let grid = (1..).find(|g| g * g >= classes).unwrap_or(1);
    let pixel = |i: &IxDyn| {
        let class = i[0] % classes;
        let within = i[1] * grid / side == class / grid && i[2] * grid / side == class % grid;
        (random.below(128) + if within { 127 } else { 0 }) as u8
    };
    let mut pixel = pixel;
    let pixels = ArrayD::from_shape_fn(IxDyn(&[samples, side, side, channels]), |i| pixel(&i));
    Dataset::new(Inputs::U8(pixels), turns(samples, classes))
}

/// Points on the surfaces of [`SOLIDS`], `[samples, points, 3]`, for networks like PointNet: each solid is turned about the vertical
/// axis at random, scaled by 0.8 to 1.2, and each point moved by a normal deviation of 0.02. Classes take turns.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] if a size is 0 or there are more classes than solids.
pub fn point_clouds(samples: usize, points: usize, classes: usize, seed: u64) -> Result<Dataset> {
    nothing_is_zero(&[samples, points, classes])?;
    if classes > SOLIDS.len() {
        return Err(Error::bad_input(format!("there are {} solids, not {classes}", SOLIDS.len())));
    }
    let mut cloud = ArrayD::zeros(IxDyn(&[samples, points, 3]));
    for sample in 0..samples {
        let mut random = Random::of(seed, sample as u64);
        let (sin, cos) = (random.unit() * std::f64::consts::TAU).sin_cos();
        let size = 0.8 + 0.4 * random.unit();
        for point in 0..points {
            let [x, y, z] = on_surface(sample % classes, &mut random);
            let turned = [x * cos - y * sin, x * sin + y * cos, z];
            for (axis, coordinate) in turned.into_iter().enumerate() {
                cloud[[sample, point, axis]] = (size * coordinate + 0.02 * random.normal()) as f32;
            }
        }
    }
    let mut set = Dataset::new(Inputs::F32(cloud), turns(samples, classes))?;
    set.class_names = SOLIDS[..classes].iter().map(|&s| s.to_owned()).collect();
    Ok(set)
}

fn on_surface(solid: usize, random: &mut Random) -> [f64; 3] {
    let angle = random.unit() * std::f64::consts::TAU;
    let (sin, cos) = angle.sin_cos();
    let height = 2.0 * random.unit() - 1.0;
    match solid {
        0 => {
            let r = (1.0 - height * height).sqrt();
            [r * cos, r * sin, height]
        }
        1 => {
            let mut p = [height, 2.0 * random.unit() - 1.0, 2.0 * random.unit() - 1.0].map(|x| 0.8 * x);
            p[random.below(3)] = if random.below(2) == 0 { -0.8 } else { 0.8 };
            p
        }
        2 => [0.6 * cos, 0.6 * sin, height],
        3 => {
            // Density along the height follows the radius.
            let r = random.unit().sqrt();
            [r * cos, r * sin, 1.0 - 2.0 * r]
        }
        4 => {
            let (s, c) = (random.unit() * std::f64::consts::TAU).sin_cos();
            let r = 0.75 + 0.25 * c;
            [r * cos, r * sin, 0.25 * s]
        }
        5 => {
            let r = random.unit().sqrt();
            [r * cos, r * sin, 0.0]
        }
        6 => [0.7 * (3.0 * height).cos(), 0.7 * (3.0 * height).sin(), height],
        _ => {
            let mut p = [0.0; 3];
            p[random.below(3)] = height;
            p
        }
    }
}

fn turns(samples: usize, classes: usize) -> Targets {
    Targets::Classes { labels: (0..samples).map(|i| (i % classes) as u32).collect(), classes }
}

fn nothing_is_zero(sizes: &[usize]) -> Result<()> {
    if sizes.contains(&0) {
        return Err(Error::bad_input("a synthetic set needs positive sizes")
            .with_help("set samples, sizes and classes to 1 or more"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_follow_their_seeds() {
        assert_eq!(blobs(20, 3, 4, 5.0, 1).expect("blobs"), blobs(20, 3, 4, 5.0, 1).expect("blobs"));
        assert_ne!(blobs(20, 3, 4, 5.0, 1).expect("blobs"), blobs(20, 3, 4, 5.0, 2).expect("blobs"));
        assert_eq!(images(6, 8, 3, 5, 1).expect("images").inputs.shape(), [6, 8, 8, 3]);
        assert!(blobs(0, 3, 4, 5.0, 1).is_err() && point_clouds(5, 16, 9, 1).is_err());
    }

    /// With centres far apart the nearest centre (the mean of the class) finds every label: there is something to learn.
    #[test]
    fn blobs_can_be_told_apart() {
        let set = blobs(200, 8, 4, 10.0, 3).expect("blobs");
        let Inputs::F32(x) = &set.inputs else { panic!("numbers") };
        let mean = |c: usize, j: usize| (c..200).step_by(4).map(|i| x[[i, j]]).sum::<f32>() / 50.0;
        let distance = |i: usize, c: usize| (0..8).map(|j| (x[[i, j]] - mean(c, j)).powi(2)).sum::<f32>();
        for i in 0..200 {
            let nearest = (0..4).min_by(|&a, &b| distance(i, a).total_cmp(&distance(i, b)));
            assert_eq!(nearest, Some(i % 4));
        }
    }

    #[test]
    fn points_lie_within_their_solids() {
        let set = point_clouds(16, 64, 8, 5).expect("clouds");
        let Inputs::F32(x) = &set.inputs else { panic!("numbers") };
        assert_eq!(x.shape(), [16, 64, 3]);
        assert!(x.iter().all(|v| v.is_finite() && v.abs() < 2.2));
        // A disc is flat: five deviations of the noise.
        assert!((0..64).all(|p| x[[5, p, 2]].abs() < 0.11));
        assert_eq!(set.class_names[5], "disc");
    }
}
