# convoyrun_mpi.sh - what convoyrun knows of each mpirun: its options, and what it writes.
#
# launch/convoyrun sources this file. It uses $kind (openmpi: Open MPI up to 4; prrte: Open MPI 5; hydra:
# MPICH and Intel MPI; other) and $exit_dir, its folder.
# shellcheck shell=bash disable=SC2154

# kind_of MPIRUN: prints which of these it is.
kind_of() {
  case $("$1" --version 2> /dev/null < /dev/null) in
    *'Open MPI) '[1-4].* | *'Spectrum MPI'*) echo openmpi ;;
    *'Open MPI) '* | *PRRTE* | *prterun*) echo prrte ;;
    *HYDRA* | *'Intel(R) MPI'*) echo hydra ;;
    *) echo other ;;
  esac
}

# --- Options --------------------------------------------------------------------------------------

# values_of NAME: prints how many words follow this option of an mpirun. Fails if the option is not
# known.
values_of() {
  case $1 in
    mca | gmca | omca | prtemca | pmixmca | genv | env) echo 2 ;;
    # Open MPI
    H | x | N | host | hostfile | machinefile | default-hostfile | add-host | add-hostfile | map-by | \
      rank-by | bind-to | npernode | npersocket | ppr | rf | rankfile | cpu-list | cpu-set | slot-list | \
      cpus-per-proc | cpus-per-rank | pe-list | timeout | wd | wdir | path | prefix | tmpdir | stdin | \
      output | output-filename | output-directory | display | xterm | xml-file | app | am | tune | mtune | \
      dvm-uri | personality | launch-agent | preload-files | max-restarts | max-vm-size | report-pid | \
      report-uri | report-events | ompi-server | hnp | debugger | debug-verbose | cf | cartofile | \
      pset | runtime-options | forward-signals | with-ft | memory-alloc-kinds | server-wait-time | \
      spawn-timeout | prtemca-param | pmix-prefix | app-prefix | rtos | exec-agent) echo 1 ;;
    # MPICH, Intel MPI
    f | hosts | ppn | perhost | rr-size | genvlist | genvexcl | envlist | envexcl | configfile | rankmap | \
      launcher | launcher-exec | bootstrap | bootstrap-exec | rmk | topolib | membind | demux | iface | \
      errfile-pattern | outfile-pattern | prepend-pattern | gpus-per-proc | localhost | nameserver | \
      order-nodes | usize | pmi-kvs-size | hostos | gtool | gtoolfile | umask | machine) echo 1 ;;
    # Options without a value, of any of them
    q | quiet | v | verbose | d | s | allow-run-as-root | oversubscribe | nooversubscribe | nolocal | \
      pernode | bynode | byslot | bycore | bind-to-core | bind-to-socket | report-bindings | tag-output | \
      timestamp-output | merge-stderr-to-stdout | display-map | display-allocation | noprefix | \
      use-hwthread-cpus | get-stack-traces | debug-daemons | leave-session-attached | novm | xml | \
      do-not-launch | show-progress | enable-recovery | disable-recovery | genvnone | genvall | envnone | \
      envall | enable-x | disable-x | disable-auto-cleanup | disable-hostname-propagation | \
      hybrid-hosts | pmi-port | prepend-rank | print-all-exitcodes | print-rank-map | profile | l | \
      skip-launch-node | rr | ordered-output) echo 0 ;;
    *) return 1 ;;
  esac
}
# binds NAME [VALUE]: succeeds if this option gives ranks certain processors, not all of the host.
binds() {
  case $1=${2:-} in
    bind-to=* | rf=* | rankfile=* | cpu-*=* | slot-list=* | cpus-per-*=* | pe-list=* | bind-to-*) true ;;
    map-by=slot | map-by=node | map-by=slot:[oO]* | map-by=node:[oO]* | map-by=:*) false ;;
    map-by=*) true ;;
    *) false ;;
  esac
}
# add NAME [VALUE...]: adds an option to mpirun_options, in the spelling of this mpirun.
add() {
  local name=$1 dashes=--
  shift
  [[ ${#name} == 1 || $kind == hydra ]] && dashes=-
  if [[ $kind == hydra ]]; then
    case $name in
      H | host) name=hosts ;;
      hostfile | machinefile) name=f ;;
      x)
        # Variables of the environment reach the ranks anyway.
        [[ $1 == *=* ]] || return 0
        name=genv
        set -- "${1%%=*}" "${1#*=}"
        ;;
    esac
  fi
  mpirun_options+=("$dashes$name" "$@")
}

# --- Output ---------------------------------------------------------------------------------------

# write_output: copies standard input to standard output. mpirun loses what it cannot write and says
# nothing. This function notices it, and still reads what comes after, so that the run goes on. A
# reader that has gone away is no fault. MPICH tells here of a killed rank: that goes into the file
# killed.
write_output() {
  trap '' INT HUP USR1 TERM
  if [[ $kind == hydra ]]; then
    sed -u "/^=\{70,\}$/{
      N
      /\n=   BAD TERMINATION/{
        :more
        /debugging suggestions/!{
          \$!{
            N
            b more
          }
        }
        s/.*PID \([0-9]*\) RUNNING AT \([^\n]*\)\n.*EXIT STRING: \([^\n]*\).*/process \1 on \2: \3/
        w $exit_dir/killed
        d
      }
    }"
  else
    cat
  fi 2> "$exit_dir/output-fault" || cat > /dev/null
}

# examine BLOCK: succeeds if mpirun's message only repeats what Convoy says. Writes down what the
# message tells of the ranks.
examine() {
  # mpirun is being ended.
  [[ -e $exit_dir/waited ]] && return
  local text=${1//$'\n'/ }
  while [[ $text == *'  '* ]]; do text=${text//  / }; done
  local signal='process rank ([0-9]+) with PID [0-9]+ on node ([^ ]+) exited on signal ([^)]*\)?)'
  if [[ $text =~ $signal ]]; then
    printf 'rank %s on %s: signal %s\n' "${BASH_REMATCH[@]:1:3}" >> "$exit_dir/killed"
  fi
  case $text in
    *'Primary job terminated normally, but'* | *'exited with non-zero status'* | *'exited on signal'* | \
      *'MPI_ABORT was invoked'* | *'has exited due to process rank'* | *'application called MPI_Abort'*)
      : > "$exit_dir/began"
      ;;
    'mpirun: Forwarding signal '* | *'has sent help message help-'* | *'orte_base_help_aggregate'* | *'prte_base_help_aggregate'*) ;;
    *'An internal error has occurred in ORTE'*'FORCE-TERMINATE'*) ;;
    *'lost communication with a remote daemon'* | *'convoy: error: [rank '*)
      : > "$exit_dir/began"
      return 1
      ;;
    *) return 1 ;;
  esac
} 2> /dev/null

# filter_errors: copies standard input to standard output, without those blocks of mpirun, between
# lines of dashes, that only repeat what Convoy says. Everything else passes at once, even a line that
# has not ended (a progress bar). If nobody reads the output any more, the input is still read.
filter_errors() {
  trap '' INT HUP USR1 TERM PIPE
  local LC_ALL=C dashes first text block='' limit
  printf -v dashes '%074d' 0
  dashes=${dashes//0/-}
  while true; do
    limit=()
    [[ -z $block ]] || limit=(-t 2) # mpirun writes a block at once
    if ! IFS= read -r "${limit[@]}" -N 1 first; then
      printf %s "$block"
      # Inside a block, the time limit may have ended the read; otherwise it was the end of the input.
      [[ -n $block ]] && block='' && continue
      return
    fi
    text=
    # Waits for the rest of a line for a tenth of a second, which nobody notices.
    if [[ $first == $'\n' ]] || IFS= read -r -t 0.1 text; then text+=$'\n'; fi
    [[ $first == $'\n' ]] || text=$first$text
    if [[ -n $block ]]; then
      block+=$text
      if [[ $text == "$dashes"$'\n' ]]; then
        examine "$block" || printf %s "$block"
        block=
      fi
    elif [[ $text == *"$dashes"$'\n' ]]; then
      printf %s "${text%"$dashes"$'\n'}"
      block=$dashes$'\n'
    else
      examine "$text" || printf %s "$text"
    fi
  done
} 2> /dev/null
