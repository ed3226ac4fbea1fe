"""The first process of a node: mounts its folders, waits for its link, and runs `ray start`; ends with it.

node.py MOUNTED_AT FOLDER VOLUME NAME ARGUMENTS_OF_RAY_START...
"""

import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    at, folder, volume, name, *arguments = sys.argv[1:]
    for what, where in ((folder, at), (volume, f"{at}/state/spool")):
        subprocess.run(["mount", "--bind", what, where], check=True)
    for file, text in (("hosts", f"127.0.0.1 localhost {name}\n"), ("resolv.conf", "")):  # nobody else is there to ask
        path = Path(folder) / file
        path.write_text(text)
        subprocess.run(["mount", "--bind", str(path), f"/etc/{file}"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", "/dev/shm"], check=True)
    subprocess.run(["hostname", name], check=True)
    sys.stdin.read()  # until the link is there
    (Path(at) / "tmp").mkdir(exist_ok=True)
    os.environ["TMPDIR"] = f"{at}/tmp"
    os.chdir(at)
    started = subprocess.Popen([str(Path(sys.executable).with_name("ray")), "start", *arguments])
    while True:  # whoever is left without a parent ends here
        pid, status = os.wait()
        if pid == started.pid:
            print(f"ray start ended: {os.waitstatus_to_exitcode(status)}", flush=True)
            sys.exit(1)


if __name__ == "__main__":
    main()
