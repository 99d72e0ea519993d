"""Files, and who the code is: not root, without capabilities or ways to get some."""

from __future__ import annotations

from security.probes.probe import Probe

PROBES = [
    # -- files --------------------------------------------------------------------------------------------------------
    Probe(1, "the root is read-only", "open('/var/tmp/x', 'w')", "EROFS", "read-only root"),
    Probe(1, "so it is for root", "open('/etc/x', 'w')", "EROFS EACCES", "read-only root + user"),
    # -- who the code is ----------------------------------------------------------------------------------------------
    Probe(2, "no capability is in reach", "holds(int(status('CapBnd'), 16) == 0)", "holds", "capabilities"),
    Probe(
        2,
        "no capability is had",
        "holds(all(int(status(f'Cap{kind}'), 16) == 0 for kind in ('Inh', 'Prm', 'Eff', 'Bnd', 'Amb')))",
        "holds",
        "user + capabilities",
    ),
    Probe(2, "a file is nobody else's", "open('x', 'w').close(); os.chown('x', 1, 1)", "EPERM", "user + capabilities"),
    Probe(2, "no program gives new rights", "holds(status('NoNewPrivs') == '1')", "holds", "no-new-privileges"),
    Probe(2, "system calls are filtered", "holds(status('Seccomp') == '2')", "holds", "seccomp"),
    Probe(3, "nobody is root", "holds(os.getuid() != 0 != os.geteuid())", "holds", "user"),
    Probe(3, "nobody becomes root", "call('setuid', 0)", "EPERM", "user + seccomp"),
    Probe(3, "files of root are closed", "open('/etc/shadow').read()", "EACCES", "user"),
    Probe(3, "nor open to a group of its own", "open('/etc/shadow').read()", "EACCES", "no more groups"),
    Probe(
        3,
        "a setuid program gains nothing",
        """
program = subprocess.Popen(['/usr/bin/mount'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
holds(status('Uid', program.pid).split()[1] != '0')
""",
        "holds",
        "no-new-privileges",
    ),
]
