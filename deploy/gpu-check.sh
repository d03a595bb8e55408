#!/usr/bin/env bash
# Checks and times a built `sinternal` on this machine's device, and writes one JSON file.
#
#   deploy/gpu-check.sh BINARY [TORCH_LIB_DIR] [options]
#
#   BINARY              the built program
#   TORCH_LIB_DIR       PyTorch's torch/lib, for LD_LIBRARY_PATH; without it, the program's own libraries
#   --device D          cuda (default), cuda:I or cpu
#   --small             a tiny model and short runs: the same path in seconds
#   --out FILE          where the figures go (default: gpu-check.json)
#   --parts LIST        of parity,generate,step (default: all three)
#   --lengths LIST      tokens of a sequence at which steps are timed (default: 2048,16384)
#   --peak-tflops X     bfloat16 peak of the device; known for H100, H200, A100 and B200
#   --work DIR          where the models go for the time of the run (default: $TMPDIR or /tmp; up to 9 GB)
#
# parity    log-probabilities on the device, in float32 and bfloat16, against float32 on the CPU
# generate  tokens/s at batch 1, 64 and 256, with the fraction of what memory bandwidth allows
# step      GRPO steps at long sequences: learner tokens/s, model FLOP utilisation, peak memory
#
# Models are random, in the shapes of Qwen3-0.6B (all weights trained) and Qwen3-4B (LoRA of rank 16). Exit code 1 when
# something failed or parity is missed, 2 for wrong usage. Needs bash, coreutils and awk.

set -euo pipefail
shopt -s inherit_errexit

# Largest and mean |difference of log-probabilities| that pass.
FLOAT32_MAX=1e-4
BFLOAT16_MEAN=0.02

work=''
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

die() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

usage() {
    die "$1; see the head of ${BASH_SOURCE[0]}" 2
}

main() {
    read_options "$@"
    work=$(mktemp -d "${work_parent%/}/gpu-check.XXXXXX") || die "$work_parent: no folder could be made in it"
    choose_shapes
    describe_device
    local parity='' generate='' step=''
    model "$full_name" "${full_shape[@]}"
    if wanted parity; then parity=$(parity_rows); fi
    if wanted generate; then generate=$(generate_rows); fi
    if wanted step; then step=$(step_rows "$full_name" full "${full_shape[@]}"); fi
    rm -rf "${work:?}/$full_name"
    if wanted step; then
        model "$lora_name" "${lora_shape[@]}"
        step+=,$(step_rows "$lora_name" lora "${lora_shape[@]}")
    fi
    write_report "$parity" "$generate" "$step"
    echo "gpu-check: wrote $out" >&2
    case $parity in *'"ok":false'*) die "log-probabilities differ from float32 on the CPU; see $out" ;; esac
}

read_options() {
    device=cuda small='' out=gpu-check.json parts=parity,generate,step lengths='' peak='' work_parent=${TMPDIR:-/tmp}
    local places=()
    while [ $# -gt 0 ]; do
        case $1 in
        --small) small=1 ;;
        --device | --out | --parts | --lengths | --peak-tflops | --work)
            [ $# -gt 1 ] || usage "$1 needs a value"
            case $1 in
            --device) device=$2 ;;
            --out) out=$2 ;;
            --parts) parts=$2 ;;
            --lengths) lengths=$2 ;;
            --peak-tflops) peak=$2 ;;
            --work) work_parent=$2 ;;
            esac
            shift
            ;;
        -*) usage "unknown option $1" ;;
        *) places+=("$1") ;;
        esac
        shift
    done
    case ${#places[@]} in 1 | 2) ;; *) usage "expected BINARY [TORCH_LIB_DIR]" ;; esac
    local part
    for part in ${parts//,/ }; do
        case $part in parity | generate | step) ;; *) usage "--parts: unknown part $part" ;; esac
    done
    [[ $lengths =~ ^[0-9,]*$ ]] || usage "--lengths: expected numbers with commas, got $lengths"
    [[ $peak =~ ^[0-9.]*$ ]] || usage "--peak-tflops: expected a number, got $peak"
    use "${places[@]}"
}

# use BINARY [TORCH_LIB_DIR]: checks what must be there before anything is made.
use() {
    binary=$1
    case $binary in */*) ;; *) binary=./$binary ;; esac
    [ -x "$binary" ] || die "$binary: is not a program that can be run"
    if [ $# -gt 1 ]; then
        [ -e "$2/libtorch_cpu.so" ] || die "$2: holds no libtorch_cpu.so"
        export LD_LIBRARY_PATH="$2${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
    [ -d "$work_parent" ] || die "$work_parent: is not a folder"
    [ -d "$(dirname "$out")" ] || die "$(dirname "$out"): is not a folder, so $out cannot be written"
    command -v awk >/dev/null || die "awk is missing; install it (apt-get install mawk)"
}

# vocabulary hidden intermediate layers heads kv_heads head_dim
choose_shapes() {
    if [ -n "$small" ]; then
        full_name=tiny full_shape=(1024 64 96 2 4 2 16)
        lora_name=tiny-wide lora_shape=(1024 96 128 2 4 2 16)
        batches='1 4' prompt_words=8 new_tokens=8 parity_tokens=24
        : "${lengths:=48,96}"
    else
        full_name=qwen3-0.6b full_shape=(151936 1024 3072 28 16 8 128)
        lora_name=qwen3-4b lora_shape=(151936 2560 9728 36 32 8 128)
        batches='1 64 256' prompt_words=40 new_tokens=128 parity_tokens=128
        : "${lengths:=2048,16384}"
    fi
    local length
    for length in ${lengths//,/ }; do
        [ "$length" -gt $((2 * prompt_words)) ] || usage "--lengths: $length is too short for a prompt of $prompt_words words"
    done
}

wanted() { [[ ,$parts, == *,$1,* ]]; }

# Name and bfloat16 peak without sparsity, from the makers' data sheets.
describe_device() {
    name=$(awk -F ': *' '/^model name/ { print $2; exit }' /proc/cpuinfo)
    [ "$device" != cpu ] || return 0
    local index=0 smi
    [[ $device != *:* ]] || index=${device#*:}
    smi=$(command -v nvidia-smi || echo /usr/local/nvidia/bin/nvidia-smi)
    name=$("$smi" --id="$index" --query-gpu=name --format=csv,noheader 2>/dev/null) || name=unknown
    [ -z "$peak" ] || return 0
    case $name in
    *H100*PCIe*) peak=756 ;;
    *H100*NVL*) peak=835 ;;
    *H100* | *H200*) peak=989 ;;
    *A100*) peak=312 ;;
    *B200*) peak=2250 ;;
    esac
}

# run NAME ARGUMENT…: the program's one JSON line. Its words are shown where it fails, and NAME in the error.
run() {
    local what=$1 log=$work/log
    shift
    echo "gpu-check: $what" >&2
    if ! "$binary" "$@" >"$work/line" 2>"$log"; then
        tail -n 5 "$log" >&2
        die "$what: \`$(basename "$binary") $1 ${2:-}\` failed; its words are above"
    fi
    cat "$work/line"
}

# model NAME SHAPE…: a random checkpoint in $work/NAME.
model() {
    run "model $1" bench model --out "$work/$1" --family qwen3 --dtype bfloat16 --seed 0 --vocab "$2" --hidden "$3" \
        --intermediate "$4" --layers "$5" --heads "$6" --kv-heads "$7" --head-dim "$8" >/dev/null
}

# number KEY JSON: the value of a number's first occurrence.
number() {
    [[ $2 =~ \"$1\":\ *(-?[0-9][0-9.eE+-]*) ]] || die "the program's output has no number $1: ${2:0:200}"
    echo "${BASH_REMATCH[1]}"
}

joined() { paste -sd , -; }

parity_rows() {
    # Rows of different lengths, tokens from a fixed linear congruence.
    awk -v vocab="${full_shape[0]}" -v longest="$parity_tokens" 'BEGIN {
        x = 1
        for (row = 1; row <= 4; row++) {
            line = ""
            for (i = 0; i < longest * row / 4; i++) {
                x = (x * 1103 + 12345) % 1048576
                line = line (i ? "," : "") (x % vocab)
            }
            print "{\"tokens\":[" line "]}"
        }
    }' >"$work/rows.jsonl"
    scores cpu float32 >"$work/truth"
    local dtype
    for dtype in float32 bfloat16; do
        scores "$device" "$dtype" >"$work/scores"
        compare "$dtype"
    done | joined
}

# scores DEVICE DTYPE: one log-probability a line.
scores() {
    run "parity: $2 on $1" score --model "$work/$full_name" --input "$work/rows.jsonl" --device "$1" --dtype "$2" \
        --json | tr -c '0-9.eE+\n-' '\n' | awk '/^-?[0-9]/'
}

compare() {
    local count
    count=$(wc -l <"$work/truth")
    [ "$count" -gt 0 ] || die "parity: \`score\` printed no log-probability"
    [ "$count" -eq "$(wc -l <"$work/scores")" ] || die "parity: \`score\` printed fewer or more rows in $1 on $device"
    paste "$work/truth" "$work/scores" | awk -v dtype="$1" -v max="$FLOAT32_MAX" -v mean="$BFLOAT16_MEAN" '
        { d = $1 - $2; if (d < 0) d = -d; if (d > largest) largest = d; sum += d }
        END {
            ok = dtype == "float32" ? largest <= max : sum / NR <= mean
            printf "{\"dtype\":\"%s\",\"tokens\":%d,\"max_abs\":%.3e,\"mean_abs\":%.3e,\"limit\":\"%s\",\"ok\":%s}\n",
                dtype, NR, largest, sum / NR, dtype == "float32" ? "max " max : "mean " mean, ok ? "true" : "false"
        }'
}

generate_rows() {
    local batch
    for batch in $batches; do
        run "generate: batch $batch" bench generate --model "$work/$full_name" --batch "$batch" \
            --prompt-words "$prompt_words" --new-tokens "$new_tokens" --device "$device" --dtype bfloat16 --json
    done | joined
}

# step_rows NAME full|lora SHAPE…
step_rows() {
    local name=$1 kind=$2 length line rank=()
    shift 2
    [ "$kind" = full ] || rank=(--lora-rank 16)
    for length in ${lengths//,/ }; do
        # What the prompt leaves: a word is seldom more than two tokens.
        line=$(run "step: $name, $kind, $length tokens a sequence" bench step --model "$work/$name" --prompts 1 \
            --group 4 --prompt-words "$prompt_words" --new-tokens $((length - 2 * prompt_words)) --steps 1 \
            --device "$device" --dtype bfloat16 "${rank[@]}" --json)
        learner "$name" "$kind" "$line" "$@"
    done | joined
}

# learner NAME KIND LINE SHAPE…: tokens/s and utilisation of the update.
#
# FLOP a token as prime-rl counts them (src/prime_rl/trainer/perf.py), so that figures compare: 6 for each weight of a
# matrix product (4 with LoRA, whose base has no weight gradient; the adapters are left out), and 12 layers × hidden ×
# length for attention, causality not counted. Recomputation is not counted.
learner() {
    local line=$3
    awk -v shape="$1" -v kind="$2" -v peak="${peak:-0}" -v seconds="$(number update_s "$line")" \
        -v sequences="$(number sequences "$line")" -v prompt="$(number prompt_tokens "$line")" \
        -v new="$(number new_tokens "$line")" -v V="$4" -v H="$5" -v I="$6" -v L="$7" -v heads="$8" -v kv="$9" \
        -v D="${10}" 'BEGIN {
            tokens = prompt + new
            weights = L * (2 * H * heads * D + 2 * H * kv * D + 3 * H * I) + V * H
            flop = (kind == "lora" ? 4 : 6) * weights + 12 * L * H * tokens
            rate = sequences * tokens / seconds
            mfu = peak > 0 ? sprintf("%.4f", rate * flop / (peak * 1e12)) : "null"
            printf "{\"shape\":\"%s\",\"trained\":\"%s\",\"tokens_per_sequence\":%d,", shape, kind, tokens
            printf "\"learner_tokens_per_s\":%.1f,\"flop_per_token\":%.4e,\"mfu\":%s,", rate, flop, mfu
        }'
    printf '"bench":%s}\n' "$line"
}

# Written beside and renamed: the file is whole or not there.
write_report() {
    local new=$out.new
    printf '{"device":"%s","name":"%s","peak_tflops":%s,"version":"%s","small":%s,"shapes":{%s,%s},' \
        "$device" "${name//[\"\\]/}" "${peak:-null}" "$("$binary" --version)" "$([ -n "$small" ] && echo true || echo false)" \
        "$(shape_json "$full_name" "${full_shape[@]}")" "$(shape_json "$lora_name" "${lora_shape[@]}")" >"$work/report"
    printf '"parity":[%s],"generate":[%s],"step":[%s]}\n' "$1" "$2" "$3" >>"$work/report"
    if ! { cp "$work/report" "$new" && mv "$new" "$out"; }; then
        rm -f "$new"
        die "$out: failed to write"
    fi
}

shape_json() {
    printf '"%s":{"vocab":%d,"hidden":%d,"intermediate":%d,"layers":%d,"heads":%d,"kv_heads":%d,"head_dim":%d}' "$@"
}

main "$@"
