//! Clocks and medians.

use std::time::Instant;

use crate::Result;

/// Clock ticks of `/proc/self/stat`, a second (`sysconf(_SC_CLK_TCK)`; 100 on every Linux that
/// Goldleaf runs on).
const TICKS_PER_SEC: f64 = 100.0;

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// By the wall's clock, in seconds.
    pub wall_s: f64,
    /// Processor time of this process and its children that ended, in seconds.
    pub cpu_s: f64,
}

/// Times a piece of work.
pub fn time<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Took)> {
    let (wall, cpu) = (Instant::now(), cpu_secs()?);
    let value = work()?;
    let took = Took { wall_s: wall.elapsed().as_secs_f64(), cpu_s: cpu_secs()? - cpu };
    Ok((value, took))
}

/// Processor time of this process and of its children that were waited for.
fn cpu_secs() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // proc(5): fields 14 to 17, counted behind the program's name, which ends at the last `)`.
    let rest = stat.rsplit_once(')').ok_or("/proc/self/stat without a name")?.1;
    let ticks: u64 = rest
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .map(str::parse::<u64>)
        .sum::<std::result::Result<u64, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SEC)
}

/// The median of a few figures; of an even number the mean of the middle two.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => f64::NAN,
        len if len % 2 == 0 => (figures[middle - 1] + figures[middle]) / 2.0,
        _ => figures[middle],
    }
}

/// The median wall and processor time.
pub fn medians(runs: &[Took]) -> Took {
    Took {
        wall_s: median(runs.iter().map(|took| took.wall_s)),
        cpu_s: median(runs.iter().map(|took| took.cpu_s)),
    }
}

/// The load of the machine over the last minute.
pub fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split_ascii_whitespace().next().ok_or("/proc/loadavg is empty")?;
    Ok(first.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_whatever_the_order() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn work_takes_processor_time() {
        let spin = || {
            let begun = Instant::now();
            while begun.elapsed().as_millis() < 200 {
                std::hint::spin_loop();
            }
            Ok(())
        };
        let ((), took) = time(spin).expect("timing");
        assert!(took.wall_s >= 0.2);
        assert!(took.cpu_s > 0.0 && took.cpu_s <= took.wall_s + 0.05);
    }
}
