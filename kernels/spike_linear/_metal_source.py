"""Metal source shared by the kernels that sum weight rows; how is told in `metal`."""

from __future__ import annotations

HEADER = """
METAL_FUNC uint votes(bool vote) {
    return uint(uint64_t(simd_vote::vote_t(simd_ballot(vote))));
}

// The neurons of a word whose count is `level`, on one side; words of a plane are `stride` apart.
template <int PLANES, bool THERMOMETER, typename P>
METAL_FUNC uint members(P words, int stride, int level) {
    if (THERMOMETER) {
        uint above = level < PLANES ? words[level * stride] : 0;
        return words[(level - 1) * stride] & ~above;
    }
    uint found = ~0u;
    for (int p = 0; p < PLANES; ++p) {
        uint word = words[p * stride];
        found &= (level >> p) & 1 ? word : ~word;
    }
    return found;
}

// Weights (panels, inputs, size): each of the size elements of a row is one output (FIELDS 1), or
// holds 4 bytes or 8 half-bytes of offset binary. A lane owns COLUMNS elements, 32 apart.
template <int COLUMNS, typename S>
METAL_FUNC void find_elements(int element, int inputs, int size, int all, thread S* at) {
    for (int k = 0; k < COLUMNS; ++k) {
        int q = min(element + 32 * k, all - 1);  // what is read beyond is not stored
        at[k] = q / size * inputs * size + q % size;
    }
}

// Sums of 4 or 8 fields: two 16-bit sums to a word, exact for `most_rows` rows.
template <int FIELDS> METAL_FUNC int most_rows() { return FIELDS == 8 ? 4369 : 257; }

template <int FIELDS, int COLUMNS, typename S>
METAL_FUNC void flush(thread uint* parts, int rows, bool subtract, thread S* sums) {
    const int offset = rows * (FIELDS == 8 ? 8 : 128);
    const int half_fields = FIELDS / 2 + (FIELDS == 1);
    for (int k = 0; FIELDS > 1 && k < COLUMNS * half_fields; ++k) {
        int low = int(parts[k] & 0xffff) - offset, high = int(parts[k] >> 16) - offset;
        int f = k / half_fields * FIELDS + k % half_fields;
        sums[f] += S(subtract ? -low : low);
        sums[f + FIELDS / 2] += S(subtract ? -high : high);
        parts[k] = 0;
    }
}

template <int FIELDS, typename W>
METAL_FUNC uint pair_of(W element, int j) {
    return uint(element) >> (32 / FIELDS * j) & (FIELDS == 8 ? 0x000f000f : 0x00ff00ff);
}

// Add or subtract the weight rows first + j of every set bit j, ascending.
template <int FIELDS, int COLUMNS, typename W, typename S>
METAL_FUNC void add_rows(
    uint bits, int first, W weight, int size, thread int* at, bool subtract,
    thread S* sums, thread uint* parts, thread int& rows) {
    for (; bits; bits &= bits - 1) {
        auto row = weight + (first + int(ctz(bits))) * size;
        for (int k = 0; k < COLUMNS; ++k) {
            if (FIELDS == 1) {
                S w = S(row[at[k]]);
                sums[k] += subtract ? -w : w;
            } else {
                for (int j = 0; j < FIELDS / 2; ++j)
                    parts[k * (FIELDS / 2) + j] += pair_of<FIELDS>(row[at[k]], j);
            }
        }
        if (FIELDS > 1 && ++rows == most_rows<FIELDS>()) {
            flush<FIELDS, COLUMNS>(parts, rows, subtract, sums);
            rows = 0;
        }
    }
}

// The output of field f of element q; APART as in PackedWeight, 16-bit elements.
template <int FIELDS, int APART>
METAL_FUNC int output_of(int q, int f, int size) {
    if (FIELDS == 1) return q;
    const int some = FIELDS / 2 + (FIELDS == 1);  // fields of 16 bits
    int e = q % size * 2 + f / some;
    return (q / size * size * 2 + e / APART * APART) * some + e % APART + f % some * APART;
}
"""

# Before ROW_SUMS: what a lane owns. `sizes` is (outputs,).
COLUMNS = """
    int lane = thread_index_in_simdgroup;
    int inputs = weight_shape[1], size = weight_shape[2], elements = weight_shape[0] * size;
    int outputs = sizes[0];
    int element = int(thread_position_in_grid.x / 32) * (32 * COLUMNS) + lane;
    int at[COLUMNS];
    find_elements<COLUMNS>(element, inputs, size, elements, at);
"""

# Sums of the spikes of `total` words in the documented order; one SIMD-group, all lanes alike.
# WORD is this lane's word of index `mine` (0 where mine >= total), INPUT the input of the first
# bit of word `m`.
_ROW_SUMS = """
    S running[COLUMNS * FIELDS] = {}, sums[COLUMNS * FIELDS] = {};
    uint parts[COLUMNS * FIELDS] = {};
    for (int level = LEVELS; level > 0; --level) {
        for (int side = 0; side < SIDES; ++side) {
            int listed = 0;
            for (int first = 0; first < total; first += 32) {
                int mine = first + lane;
                FIND
                uint word = WORD;
                for (uint full = votes(word != 0); full; full &= full - 1) {
                    int w = ctz(full), m = first + w;
                    uint bits = simd_broadcast(word, ushort(w));
                    add_rows<FIELDS, COLUMNS>(
                        bits, INPUT, weight, size, at, side > 0, running, parts, listed);
                }
            }
            flush<FIELDS, COLUMNS>(parts, listed, side > 0, running);
        }
        for (int k = 0; k < COLUMNS * FIELDS; ++k) sums[k] += running[k];
    }
"""


def row_sums(word: str, first_input: str, find: str = "") -> str:
    """Source that fills sums[COLUMNS * FIELDS], given WORD and INPUT; FIND goes before WORD."""
    return _ROW_SUMS.replace("FIND", find).replace("WORD", word).replace("INPUT", first_input)


# After ROW_SUMS, for output row `row`.
STORE = """
    for (int k = 0; k < COLUMNS; ++k) {
        int q = element + 32 * k;
        for (int f = 0; f < FIELDS; ++f) {
            int c = output_of<FIELDS, APART>(q, f, size);
            if (q < elements && c < outputs) out[row * outputs + c] = sums[k * FIELDS + f];
        }
    }
"""
