//! The process as the system sees it. Everything is optional: where `/proc` is missing, nothing is said.

/// Numbers of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    pub max_fds: Option<u64>,
    pub start_seconds: Option<f64>,
}

impl Process {
    /// Reads `/proc/self`. Quick, but it does touch files.
    pub fn read() -> Self {
        let max_fds = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let mut process = Self { max_fds, ..Self::default() };
        process.open_fds = std::fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64);
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
            process.fill(&stat, &boot, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64);
        }
        process
    }

    /// `stat` is `/proc/self/stat`: the command's name stands in brackets and may hold anything, so what counts is after the
    /// last bracket. The third field follows it.
    fn fill(&mut self, stat: &str, system: &str, ticks: u64, page: u64) {
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.wrapping_sub(3))?.parse::<u64>().ok();
        #[expect(clippy::cast_precision_loss, reason = "ticks fit a double for longer than machines run")]
        let seconds = |clock: u64| clock as f64 / ticks.max(1) as f64;
        self.cpu_seconds = field(14).zip(field(15)).map(|(user, system)| seconds(user + system));
        self.resident_bytes = field(24).map(|pages| pages * page);
        let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        self.start_seconds = boot.zip(field(22)).map(|(boot, start)| boot + seconds(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 4 0 1000 5000 25 0";
        let mut process = Process::default();
        process.fill(stat, "cpu 1\nbtime 100\n", 100, 4096);
        assert_eq!(process.cpu_seconds, Some(2.0));
        assert_eq!(process.start_seconds, Some(110.0));
        assert_eq!(process.resident_bytes, Some(25 * 4096));
    }
}
