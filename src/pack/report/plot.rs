//! Plots as SVG text.

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2f, 0x6f, 0xb7),
    RGBColor(0xe0, 0x8e, 0x2b),
    RGBColor(0x3c, 0x9d, 0x6b),
    RGBColor(0xc2, 0x4d, 0x52),
    RGBColor(0x7d, 0x62, 0xb3),
    RGBColor(0x6b, 0x75, 0x80),
];
const INK: RGBColor = RGBColor(0x1c, 0x24, 0x30);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
const FONT: &str = "sans-serif";

/// Bars made of parts: a bar a label, a part a series, one upon the other.
#[derive(Debug)]
pub(super) struct Bars<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    /// What stands under the bars.
    pub(super) labels: Vec<String>,
    /// Names of the parts, and their height in each bar.
    pub(super) series: Vec<(&'a str, Vec<f64>)>,
    /// A line across: its name and height.
    pub(super) line: Option<(&'a str, f64)>,
}

impl Bars<'_> {
    pub(super) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        self.draw(SVGBackend::with_string(&mut text, (960, 380)).into_drawing_area())
            .map_err(|e| Error::internal(format!("the plot '{}' cannot be drawn: {e}", self.title)))?;
        Ok(text)
    }

    fn draw(&self, root: Area<'_>) -> Drawn {
        let sums = (0..self.labels.len()).map(|bar| self.series.iter().map(|(_, parts)| parts[bar]).sum::<f64>());
        let top = sums.chain(self.line.map(|(_, height)| height)).fold(0.0, f64::max);
        // Room above the bars for the legend.
        let top = if top > 0.0 { 1.4 * top } else { 1.0 };
        let count = self.labels.len() as f64;
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, (FONT, 16).into_font().color(&INK))
            .margin(8)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..count, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .x_labels(0)
            .y_labels(6)
            .y_desc(self.unit)
            .y_label_formatter(&|value| short(*value))
            .label_style((FONT, 12).into_font().color(&INK))
            .draw()?;
        let mut base = vec![0.0; self.labels.len()];
        for ((name, parts), colour) in self.series.iter().zip(COLOURS) {
            let bars = parts.iter().enumerate().map(|(bar, &height)| {
                let left = bar as f64;
                let low = base[bar];
                base[bar] += height;
                Rectangle::new([(left + 0.15, low), (left + 0.85, low + height)], colour.filled())
            });
            let drawn = chart.draw_series(bars.collect::<Vec<_>>())?;
            if self.series.len() > 1 {
                drawn.label(*name).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
            }
        }
        if let Some((name, height)) = self.line {
            let colour = INK;
            chart
                .draw_series([PathElement::new(vec![(0.0, height), (count, height)], colour.stroke_width(2))])?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 12, y)], colour.stroke_width(2)));
        }
        if self.series.len() > 1 || self.line.is_some() {
            legend(&mut chart)?;
        }
        self.name(&root, |x| chart.plotting_area().map_coordinate(&(x, 0.0)))?;
        root.present()?;
        Ok(())
    }

    /// Names under the bars, by hand, as an axis of numbers has none; on two lines in turn, so that neighbours do not touch.
    fn name(&self, root: &Area<'_>, at: impl Fn(f64) -> (i32, i32)) -> Drawn {
        let style = (FONT, 12).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        for (bar, label) in self.labels.iter().enumerate() {
            let (x, y) = at(bar as f64 + 0.5);
            root.draw(&Text::new(label.as_str(), (x, y + if bar % 2 == 0 { 8 } else { 22 }), style.clone()))?;
        }
        Ok(())
    }
}

/// Points of several series; those of the front are filled and named.
#[derive(Debug)]
pub(super) struct Scatter<'a> {
    pub(super) title: &'a str,
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) series: Vec<Dots>,
}

/// A series of points.
#[derive(Debug)]
pub(super) struct Dots {
    pub(super) name: String,
    pub(super) dots: Vec<Dot>,
}

#[derive(Debug)]
pub(super) struct Dot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) front: bool,
    pub(super) label: String,
}

impl Scatter<'_> {
    pub(super) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        self.draw(SVGBackend::with_string(&mut text, (960, 460)).into_drawing_area())
            .map_err(|e| Error::internal(format!("the plot '{}' cannot be drawn: {e}", self.title)))?;
        Ok(text)
    }

    fn draw(&self, root: Area<'_>) -> Drawn {
        let points = || self.series.iter().flat_map(|series| &series.dots);
        let range = |of: fn(&Dot) -> f64| {
            let (low, high) = points().map(of).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
            if low > high {
                0.0..1.0
            } else {
                (low - 0.06 * (high - low + low.abs() * 0.1)).max(0.0)..high + 0.1 * (high - low + high.abs() * 0.1)
            }
        };
        let mut chart = ChartBuilder::on(&root)
            .caption(self.title, (FONT, 16).into_font().color(&INK))
            .margin(8)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(range(|dot| dot.x), range(|dot| dot.y))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|value| short(*value))
            .y_label_formatter(&|value| short(*value))
            .label_style((FONT, 12).into_font().color(&INK))
            .draw()?;
        for (Dots { name, dots }, colour) in self.series.iter().zip(COLOURS.into_iter().cycle()) {
            let circles = dots.iter().map(|dot| {
                let style = if dot.front { colour.filled() } else { colour.stroke_width(1) };
                Circle::new((dot.x, dot.y), if dot.front { 5 } else { 3 }, style)
            });
            chart
                .draw_series(circles.collect::<Vec<_>>())?
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 6, y), 5, colour.filled()));
            chart.draw_series(dots.iter().filter(|dot| dot.front).map(|dot| {
                let label = Text::new(dot.label.clone(), (7, -12), (FONT, 11).into_font().color(&INK));
                EmptyElement::at((dot.x, dot.y)) + label
            }))?;
        }
        // More do not fit; the table below has them all.
        if self.series.len() <= 12 {
            legend(&mut chart)?;
        }
        root.present()?;
        Ok(())
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn legend<'a, X, Y>(chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font((FONT, 12).into_font().color(&INK))
        .draw()
        .map_err(|e| e.to_string().into())
}

/// 1.2 M instead of 1200000.
pub(super) fn short(value: f64) -> String {
    let steps = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    match steps.into_iter().find(|(step, _)| value.abs() >= *step) {
        Some((step, name)) => format!("{}{name}", trimmed(value / step)),
        None => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.25, 7.0, 42.42, 999.4, 1500.0, 2.5e6, 3e9, 1e13].map(short);
        assert_eq!(shown, ["0", "0.25", "7", "42.4", "999", "1.5 k", "2.5 M", "3 G", "10 T"]);
    }
}
