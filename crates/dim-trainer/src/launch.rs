//! Where a process stands among those of its run, as its launcher's environment variables say: torchrun's, Open MPI's or Slurm's.

use dim_torch::distributed::Place;

use crate::error::TrainerError;

/// c10d's usual port.
const DEFAULT_PORT: u16 = 29500;

/// What a launcher says of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    /// Its place in the run.
    pub(crate) place: Place,
    /// Processes on this machine.
    pub(crate) local_size: usize,
}

impl Launch {
    /// What the launcher's variables, read through `variable`, say; `None` for a process that is alone.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] naming a variable that is missing or makes no sense.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TrainerError> {
        let variables = Variables { read: &variable };
        let launcher = if variable("RANK").is_some() && variable("WORLD_SIZE").is_some() {
            TORCHRUN
        } else if variable("OMPI_COMM_WORLD_SIZE").is_some() {
            OPEN_MPI
        } else if variable("SLURM_STEP_ID").is_some() && variable("SLURM_PROCID").is_some() {
            SLURM
        } else {
            return Ok(None);
        };
        let attempt = variables.number(launcher.attempt)?.unwrap_or(0);
        let size = variables.needed(launcher.size)?;
        if size <= 1 && attempt == 0 {
            return Ok(None);
        }
        let rank = variables.needed(launcher.rank)?;
        let local_rank = variables.needed(launcher.local_rank)?;
        let local_size = variables.number(launcher.local_size)?.unwrap_or(1).max(1);
        let place = Place {
            rank,
            size,
            local_rank,
            address: variables.address(size, local_size)?,
            port: variables.port()?,
            launcher_holds_store: variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True"),
            attempt: attempt as u64,
            host: variables.host(),
        };
        Ok(Some(Self { place, local_size }))
    }
}

/// The names that a launcher gives its variables.
struct Launcher {
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
    attempt: &'static str,
}

const TORCHRUN: Launcher = Launcher {
    rank: "RANK",
    size: "WORLD_SIZE",
    local_rank: "LOCAL_RANK",
    local_size: "LOCAL_WORLD_SIZE",
    attempt: "TORCHELASTIC_RESTART_COUNT",
};
const OPEN_MPI: Launcher = Launcher {
    rank: "OMPI_COMM_WORLD_RANK",
    size: "OMPI_COMM_WORLD_SIZE",
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
    attempt: "OMPI_MCA_orte_num_restarts",
};
const SLURM: Launcher = Launcher {
    rank: "SLURM_PROCID",
    size: "SLURM_NTASKS",
    local_rank: "SLURM_LOCALID",
    local_size: "SLURM_NTASKS_PER_NODE",
    attempt: "SLURM_RESTART_COUNT",
};

struct Variables<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
}

impl Variables<'_> {
    fn number(&self, name: &str) -> Result<Option<usize>, TrainerError> {
        let Some(text) = (self.read)(name) else { return Ok(None) };
        // Slurm writes `4(x2)` for two machines with four each.
        let digits = text.split('(').next().unwrap_or_default();
        let unreadable = |_| TrainerError::Usage(format!("the launcher's {name} must be a whole number, got {text:?}"));
        digits.trim().parse().map(Some).map_err(unreadable)
    }

    fn needed(&self, name: &str) -> Result<usize, TrainerError> {
        self.number(name)?.ok_or_else(|| {
            TrainerError::Usage(format!("the launcher set no {name}, which a run of several processes needs"))
        })
    }

    /// The machine of the store: rank 0's.
    fn address(&self, size: usize, local_size: usize) -> Result<String, TrainerError> {
        let listed = ["SLURM_STEP_NODELIST", "SLURM_NODELIST"].iter().find_map(|name| (self.read)(name));
        if let Some(address) = (self.read)("MASTER_ADDR").or_else(|| listed.map(|list| first_node(&list))) {
            return Ok(address);
        }
        if local_size >= size {
            return Ok("127.0.0.1".to_owned());
        }
        Err(TrainerError::Usage("the launcher set no MASTER_ADDR: name the machine of rank 0 in it".to_owned()))
    }

    fn port(&self) -> Result<u16, TrainerError> {
        match (self.number("MASTER_PORT")?, self.number("SLURM_JOB_ID")?) {
            (Some(port), _) => u16::try_from(port)
                .map_err(|_| TrainerError::Usage(format!("MASTER_PORT must be a port up to 65535, got {port}"))),
            // Two jobs on one machine must not meet.
            (None, Some(job)) => Ok(DEFAULT_PORT + (job % 1000) as u16),
            (None, None) => Ok(DEFAULT_PORT),
        }
    }

    fn host(&self) -> String {
        let named = ["SLURMD_NODENAME", "HOSTNAME"].iter().find_map(|name| (self.read)(name));
        let of_system = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        named.or_else(of_system).map_or_else(|| "unknown host".to_owned(), |name| name.trim().to_owned())
    }
}

/// The first machine of a list such as `node[003-007,9],login`.
fn first_node(list: &str) -> String {
    let Some((name, rest)) = list.split_once('[').filter(|(name, _)| !name.contains(',')) else {
        return list.split(',').next().unwrap_or_default().to_owned();
    };
    let number = rest.split([',', '-', ']']).next().unwrap_or_default();
    format!("{name}{number}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Option<Launch>, TrainerError> {
        Launch::from_environment(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn torchrun_is_understood() {
        let of_torchrun = [
            ("RANK", "5"),
            ("WORLD_SIZE", "8"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "4"),
            ("MASTER_ADDR", "node7"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
            ("HOSTNAME", "node8"),
        ];
        let place = Place {
            rank: 5,
            size: 8,
            local_rank: 1,
            address: "node7".into(),
            port: 1234,
            launcher_holds_store: true,
            attempt: 2,
            host: "node8".into(),
        };
        assert_eq!(launch(&of_torchrun).unwrap().unwrap(), Launch { place, local_size: 4 });
    }

    #[test]
    fn slurm_is_understood_within_a_step() {
        let mut of_slurm = vec![
            ("SLURM_PROCID", "9"),
            ("SLURM_NTASKS", "16"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_NTASKS_PER_NODE", "8(x2)"),
            ("SLURM_NODELIST", "gpu[003-004],x9"),
            ("SLURM_JOB_ID", "4123"),
            ("SLURMD_NODENAME", "gpu004"),
        ];
        assert_eq!(launch(&of_slurm).unwrap(), None, "the batch script itself is no process of the run");
        of_slurm.push(("SLURM_STEP_ID", "0"));
        let Launch { place, local_size } = launch(&of_slurm).unwrap().unwrap();
        assert_eq!((place.rank, place.size, place.local_rank, local_size), (9, 16, 1, 8));
        assert_eq!((place.address.as_str(), place.port, place.host.as_str()), ("gpu003", 29623, "gpu004"));
    }

    #[test]
    fn open_mpi_is_understood_on_one_machine_without_an_address() {
        let of_mpi = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        let place = launch(&of_mpi).unwrap().unwrap().place;
        assert_eq!((place.rank, place.address.as_str(), place.port), (1, "127.0.0.1", DEFAULT_PORT));
        let error = launch(&[&of_mpi[..3], &[("OMPI_COMM_WORLD_LOCAL_SIZE", "1")]].concat()).unwrap_err().to_string();
        assert!(error.contains("MASTER_ADDR"), "{error}");
    }

    #[test]
    fn one_process_is_alone_and_nonsense_is_named() {
        assert_eq!(launch(&[]).unwrap(), None);
        assert_eq!(launch(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap(), None);
        let error = launch(&[("RANK", "x"), ("WORLD_SIZE", "2")]).unwrap_err().to_string();
        assert!(error.contains("RANK must be a whole number, got \"x\""), "{error}");
        let error = launch(&[("RANK", "1"), ("WORLD_SIZE", "2")]).unwrap_err().to_string();
        assert!(error.contains("set no LOCAL_RANK"), "{error}");
    }

    #[test]
    fn first_nodes_of_lists() {
        for (list, first) in
            [("a", "a"), ("a,b[1-2]", "a"), ("n[07,9]", "n07"), ("n[3]", "n3"), ("n-x[10-12],m", "n-x10")]
        {
            assert_eq!(first_node(list), first);
        }
    }
}
