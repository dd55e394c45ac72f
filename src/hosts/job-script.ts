/**
 * The shell side of jobs.ts: fed to `sh -s` on the machine of the job, after a header of assignments. Nothing is
 * installed there; it needs a POSIX sh (dash is enough), flock, setsid, sync, mkdir, mv, cat and env;
 * to end a job also sed, cut and grep.
 *
 * Header: fj_op (start|wait|look|busy|end) fj_root fj_above (the folder the root is in) fj_id fj_wait, to start also fj_lane fj_epoch
 * fj_key fj_cmd fj_in fj_env, and the folders from the job's up to the root as positional parameters. All names begin with fj_, because an assignment to a variable
 * that happens to be exported would change the environment of the command.
 *
 * Answer: one line `flow-job state=… rc=… pid=… boot=… alive=… by=… begin=… end=…`, `-` for what is not known.
 * Exit 70 to 79: the machine could not do it, and the command was not started; the reason is on standard error.
 *
 * A job is a folder:
 *   cmd, in      what is run, and its standard input; `key` is their checksum, `boot` the boot it was started in
 *   runner       locked by the supervising shell alone: free means it is gone
 *   lock         locked by every process of the job; free means that nothing of it lives
 *   started      durable before the command runs: "pid seconds-since-boot"
 *   out          standard output and error
 *   rc           "status begin end", by rename; its bytes are set aside beforehand, for a command that fills the disk
 * No folder: absent. rc: done. runner held: running. Not started: claimed (safe to start). Else: lost.
 * A daemon left behind by the command keeps `lock`, and must neither keep the job running nor its lane busy: with rc
 * there is no more question.
 *
 * Everything stands in functions and the last line calls them: a script cut off by a broken connection does nothing.
 * The text holds no dollar sign before a brace, which would mean something else in a template.
 */
export const JOB_SCRIPT = String.raw`
fj_fail() { printf 'flow job %s: %s\n' "$fj_id" "$2" >&2; exit "$1"; }

fj_free() { # is the lock file $1 free?
  [ -e "$1" ] || return 0
  flock -n -s 5 5<"$1"
  case $? in
  0) return 0 ;;
  1) return 1 ;;
  *) fj_fail 70 "cannot use flock on $1" ;;
  esac
}

fj_done() {
  [ -e "$1/rc" ] || return 1
  read -r fj_rc fj_begin fj_end <"$1/rc"
  fj_state=done
}

fj_look() { # looks at the job in folder $1
  fj_rc=- fj_pid=- fj_boot=other fj_alive=no fj_begin=- fj_end=- fj_was=
  if [ ! -d "$1" ]; then fj_state=absent; return 0; fi
  { read -r fj_was <"$1/boot"; } 2>/dev/null
  [ "$fj_was" != "$fj_now" ] || fj_boot=same
  { read -r fj_pid fj_rest <"$1/started"; } 2>/dev/null || fj_pid=-
  if fj_done "$1"; then :
  elif ! fj_free "$1/runner"; then fj_state=running
  elif fj_done "$1"; then :
  elif [ ! -e "$1/started" ]; then fj_state=claimed
  else
    fj_state=lost
    { read -r fj_pid fj_rest <"$1/started"; } 2>/dev/null || fj_pid=-
    fj_free "$1/lock" || fj_alive=yes
  fi
  return 0
}

fj_answer() {
  printf 'flow-job state=%s rc=%s pid=%s boot=%s alive=%s by=%s begin=%s end=%s\n' \
    "$fj_state" "$fj_rc" "$fj_pid" "$fj_boot" "$fj_alive" "$fj_by" "$fj_begin" "$fj_end"
  exit 0
}

fj_fence() { # from here on one starter at a time; one older than the newest driver seen here starts nothing
  mkdir -p "$fj_root/.lanes" || fj_fail 71 "cannot make $fj_root"
  exec 8>>"$fj_root/.lock"
  flock -w 10 8 || fj_fail 71 "cannot lock $fj_root"
  fj_newest=0
  [ ! -e "$fj_root/epoch" ] || read -r fj_newest <"$fj_root/epoch" || fj_fail 72 "cannot read $fj_root/epoch"
  if [ "$fj_epoch" -lt "$fj_newest" ]; then fj_state=fenced; fj_answer; fi
  [ "$fj_epoch" -gt "$fj_newest" ] || return 0
  printf '%s\n' "$fj_epoch" >"$fj_root/epoch.tmp" && sync "$fj_root/epoch.tmp" &&
    mv -f "$fj_root/epoch.tmp" "$fj_root/epoch" && sync "$fj_root" || fj_fail 72 "cannot write $fj_root/epoch"
  # The entry of the root itself; the folder above may be closed to us, and then it is older than this job.
  sync "$fj_above" 2>/dev/null || :
}

fj_lane_is_free() {
  fj_other=
  { read -r fj_other <"$fj_root/.lanes/$1"; } 2>/dev/null
  if [ -z "$fj_other" ] || [ "$fj_other" = "$fj_id" ]; then return 0; fi
  fj_look "$fj_root/$fj_other"
  [ "$fj_state" != running ] && [ "$fj_alive" = no ]
}

fj_busy() { # the first job that is at work in any lane
  for fj_file in "$fj_root"/.lanes/*; do
    if ! fj_lane_is_free "$(printf '%s\n' "$fj_file" | sed 's|.*/||')"; then fj_state=busy fj_by=$fj_other; fj_answer; fi
  done
}

fj_supervise='
fj_dir=$1 fj_umask=$2
shift 2
fj_env=$FLOW_JOB_ENV
unset FLOW_JOB_ENV
fj_clock() { { read -r fj_time fj_rest </proc/uptime; } 2>/dev/null || fj_time=$(date +%s); }
trap : HUP INT TERM
fj_clock
printf "%s %s\n" "$$" "$fj_time" >"$fj_dir/started.tmp" &&
  printf "%64s\n" "" >"$fj_dir/rc.tmp" &&
  sync "$fj_dir/cmd" "$fj_dir/in" "$fj_dir/key" "$fj_dir/boot" "$fj_dir/rc.tmp" "$fj_dir/started.tmp" &&
  mv -f "$fj_dir/started.tmp" "$fj_dir/started" && sync "$@" || exit 70
trap "" PIPE
printf "%s\n" "$$" 2>/dev/null
trap - PIPE
exec >/dev/null 2>&1
fj_clock
fj_begin=$fj_time
( umask "$fj_umask"; exec 6>&-; eval "$fj_env"; . "$fj_dir/cmd" ) >>"$fj_dir/out" 2>&1 <"$fj_dir/in"
fj_rc=$?
fj_clock
printf "%s %s %s\n" "$fj_rc" "$fj_begin" "$fj_time" 1<>"$fj_dir/rc.tmp" && sync "$fj_dir/rc.tmp" &&
  mv -f "$fj_dir/rc.tmp" "$fj_dir/rc" && exec 6>&- && sync "$fj_dir"
'

fj_start() {
  fj_fence
  fj_look "$fj_dir"
  case $fj_state in
  absent | claimed) ;;
  *)
    fj_known=
    { read -r fj_known <"$fj_dir/key"; } 2>/dev/null
    [ "$fj_known" = "$fj_key" ] || fj_state=different
    fj_answer
    ;;
  esac
  if ! fj_lane_is_free "$fj_lane"; then fj_state=busy fj_by=$fj_other; fj_answer; fi
  # Written anew even where a starter died on the way: what it wrote need not have reached the disk.
  mkdir -p "$fj_dir" && printf '%s\n' "$fj_cmd" >"$fj_dir/cmd" && printf '%s' "$fj_in" >"$fj_dir/in" &&
    printf '%s\n' "$fj_key" >"$fj_dir/key" && printf '%s\n' "$fj_now" >"$fj_dir/boot" && : >"$fj_dir/out" &&
    printf '%s\n' "$fj_id" >"$fj_root/.lanes/.$fj_lane" && mv -f "$fj_root/.lanes/.$fj_lane" "$fj_root/.lanes/$fj_lane" ||
    fj_fail 73 "cannot write $fj_dir"
  exec 6>>"$fj_dir/runner" 9>>"$fj_dir/lock"
  # Another look may hold these shared for a moment.
  flock -w 5 6 && flock -w 5 9 || fj_fail 74 "cannot lock $fj_dir"
  FLOW_JOB_ENV=$fj_env
  export FLOW_JOB_ENV
  # The supervisor prints its process id once "started" is durable; the substitution waits for that and no longer.
  # setsid -f, because a shell starts a command after & with SIGINT and SIGQUIT ignored, for good; & only where -f is unknown.
  fj_pid=$(
    setsid -f sh -c "$fj_supervise" flow-job "$fj_dir" "$fj_umask" "$@" 8>&- || {
      setsid sh -c "$fj_supervise" flow-job "$fj_dir" "$fj_umask" "$@" 8>&- &
    }
  )
  if [ -z "$fj_pid" ]; then
    fj_look "$fj_dir"
    [ "$fj_state" != claimed ] || fj_fail 75 "the supervisor could not store that it started"
    fj_answer
  fi
  fj_state=running fj_rc=- fj_boot=same fj_alive=no
  fj_answer
}

fj_members() { # what is left of the job: its session while it is supervised, else whoever holds its lock
  if [ "$fj_state" = running ]; then
    # The number of a living session leader names its session; sudo and its like close the lock, so it is not asked for.
    for fj_stat in /proc/[0-9]*/stat; do
      fj_fields=$(sed 's/.*) [^ ]* [^ ]* [^ ]* \([^ ]*\) .*/\1/' "$fj_stat" 2>/dev/null)
      [ "$fj_fields" = "$fj_pid" ] && printf '%s\n' "$fj_stat"
    done | cut -d / -f 3 | grep -vxF -- "$fj_pid"
  else
    for fj_fd in /proc/[0-9]*/fd/9; do
      [ "$fj_fd" -ef "$fj_dir/lock" ] && printf '%s\n' "$fj_fd"
    done | cut -d / -f 3
  fi
}

fj_end() { # asks what is left of the job to end, and after ten seconds no longer asks; its supervisor still records the status
  fj_tries=0
  while fj_look "$fj_dir"; [ "$fj_state" = running ] || [ "$fj_alive" = yes ]; do
    fj_sig=TERM
    [ "$fj_tries" -lt 100 ] || fj_sig=KILL
    [ "$fj_tries" -lt 150 ] || break
    # Once, or a program that takes its time to end well would be asked again and again.
    case $fj_tries in
    0 | 10[0-9] | 1[1-4][0-9]) for fj_member in $(fj_members); do kill -s "$fj_sig" "$fj_member" 2>/dev/null; done ;;
    esac
    fj_tries=$((fj_tries + 1))
    sleep 0.1
  done
}

fj_main() {
  exec </dev/null
  fj_umask=$(umask)
  umask 077
  fj_now=none fj_by=- fj_dir=$fj_root/$fj_id
  fj_rc=- fj_pid=- fj_boot=same fj_alive=no fj_begin=- fj_end=-
  { read -r fj_now </proc/sys/kernel/random/boot_id; } 2>/dev/null
  # A wait that is cut short leaves its flock for a few seconds: it must not hold the pipes of the answer open.
  case $fj_op in
  start) fj_start "$@" ;;
  busy) fj_busy ;;
  end) fj_end ;;
  wait) [ ! -e "$fj_dir/runner" ] || flock -s -w "$fj_wait" 5 5<"$fj_dir/runner" >/dev/null 2>&1 ;;
  esac
  fj_look "$fj_dir"
  fj_answer
}

fj_main "$@"
`;
