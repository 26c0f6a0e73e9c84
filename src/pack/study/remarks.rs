//! What a designer should know before quoting a study: said in words, from its numbers.

use super::{Granularity, Role, Study, Total};

/// Below this saving a scheme is hardly worth its decoder.
const LITTLE: f64 = 0.1;

pub(super) fn of(study: &Study) -> Vec<String> {
    let roles = [(Role::Weights, "Weights"), (Role::Input, "Activations"), (Role::Loose, "Tensors")];
    let mut remarks = Vec::new();
    for (role, name) in roles {
        let total = study.total(role);
        if total.bits > 0 {
            remarks.extend(gain(study, role, name, &total));
        }
    }
    if study.samples == 0 && study.tensors.iter().any(|tensor| tensor.role == Role::Weights) {
        remarks.push(
            "No inputs were given, so nothing is known of activations: machines are charged for theirs uncompressed."
                .into(),
        );
    }
    remarks
}

/// How much the best scheme saves, what an ideal coder of single values would, and why it may be little.
fn gain(study: &Study, role: Role, name: &str, total: &Total) -> Option<String> {
    let bound = study.schemes.iter().position(|scheme| scheme == "entropy");
    let real = (0..study.schemes.len()).filter(|&i| Some(i) != bound);
    let best = real.min_by(|&a, &b| total.share(a).total_cmp(&total.share(b)))?;
    let saved = |share: f64| format!("{:.1} %", 100.0 * (1.0 - share));
    let mut text = if total.share(best) < 1.0 {
        format!("{name}: {} saves most, {}", study.schemes[best], saved(total.share(best)))
    } else {
        format!("{name}: no scheme saves anything")
    };
    if let Some(bound) = bound {
        text += &format!(
            "; a coder of single values can save {} at most (their entropy)",
            saved(total.share(bound).min(1.0))
        );
    }
    text += ".";
    let fine = study.tensors.iter().filter(|tensor| tensor.role == role);
    let fine: u64 = fine
        .filter(|tensor| matches!(tensor.granularity, Granularity::Channel | Granularity::Group(_)))
        .map(|tensor| tensor.bits)
        .sum();
    let groups = |i: &usize| ["fixed", "ss"].iter().any(|name| study.schemes[*i].starts_with(name));
    let widths = (0..study.schemes.len()).filter(groups).min_by(|&a, &b| total.share(a).total_cmp(&total.share(b)));
    if let Some(widths) = widths.filter(|&i| total.share(i) > 1.0 - LITTLE && total.zero_share() < 0.5) {
        let (stored, all) = (total.sizes[widths], total.bits as f64);
        let (values, beside) = (stored.values as f64 / all, (stored.total() - stored.values) as f64 / all);
        text += &if values <= 1.0 - LITTLE {
            format!(
                " Under {} the values alone would take {:.0} %; prefixes, padding and pointers add {:.0} %.",
                study.schemes[widths],
                100.0 * values,
                100.0 * beside
            )
        } else if 2 * fine > total.bits {
            " They are quantised per channel or finer, so nearly every group has a value that needs all bits: widths gain little here. Coarser \
             scales leave more to compress, but that is the quantiser's loss, not the scheme's gain."
                .to_owned()
        } else {
            " Their values fill their containers: widths gain little here.".to_owned()
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::Footprint;
    use super::*;
    use crate::pack::{Element, Size};

    fn study(granularity: Granularity, zeros: u64, fixed: u64, entropy: u64) -> Study {
        let bits = |values| Size { values, ..Size::default() };
        let tensor = Footprint {
            layer: Some(0),
            name: "t".into(),
            role: Role::Weights,
            element: Element::I8,
            granularity,
            shape: vec![1, 1, 1, 1000],
            values: 1000,
            zeros,
            bits: 8000,
            sizes: vec![bits(8000), bits(fixed), bits(entropy)],
        };
        Study {
            network: "n".into(),
            schemes: ["none", "fixed16", "entropy"].map(str::to_owned).into(),
            samples: 0,
            layers: vec![],
            tensors: vec![tensor],
            machines: vec![],
            remarks: vec![],
        }
    }

    #[test]
    fn little_gain_is_said_to_be_little() {
        let fine = of(&study(Granularity::Channel, 10, 7800, 6880));
        assert!(
            fine[0].starts_with("Weights: fixed16 saves most, 2.5 %; a coder of single values can save 14.0 % at most")
        );
        assert!(fine[0].contains("per channel or finer"), "{fine:?}");
        let coarse = of(&study(Granularity::Tensor, 10, 5000, 4000));
        assert!(coarse[0].ends_with("50.0 % at most (their entropy)."), "{coarse:?}");
        let full = of(&study(Granularity::Tensor, 10, 8100, 7900));
        assert!(full[0].contains("no scheme saves") || full[0].contains("fill their containers"), "{full:?}");
        assert!(full[1].starts_with("No inputs were given"));
    }
}
