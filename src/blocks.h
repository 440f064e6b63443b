/* How the rows are cut into blocks and tiles, shared by the passes and by what calls them. TILE_ROWS is defined where this
 * is included: how many rows a kernel works on at a time.
 *
 * The number of blocks depends on the shapes alone; one thread sums a block in row order; block sums are added in
 * block order: same bits for every number of threads. */
#ifndef MOE_FAST_BLOCKS_H
#define MOE_FAST_BLOCKS_H

#include <stddef.h>

enum {
    TILE_STRIDE = TILE_ROWS + 8, /* a line more: rows a power of two apart would share a few sets of the cache */
    NARROW_STRIDE = TILE_ROWS + 16, /* the same for numbers in single precision */
    MOST_RIGHT = 6,    /* right rows of a register tile (for_each_isa.h), the most of any instruction set */
    MOST_BLOCKS = 64,  /* keep 8 threads busy to the end */
    FEWEST_BLOCKS = 8
};
/* Fewer than 64 blocks where the sums are large, so that the workspace stays below 64 MB. */
static const ptrdiff_t MOST_WORK = (ptrdiff_t)1 << 23;

static inline ptrdiff_t n_tiles(ptrdiff_t n_samples) { return (n_samples + TILE_ROWS - 1) / TILE_ROWS; }

/* Blocks for n_samples rows whose sums fill `size` doubles. */
static inline ptrdiff_t n_blocks(ptrdiff_t n_samples, ptrdiff_t size) {
    ptrdiff_t n = MOST_WORK / (size > 0 ? size : 1), tiles = n_tiles(n_samples);
    if (n < FEWEST_BLOCKS) n = FEWEST_BLOCKS;
    if (n > MOST_BLOCKS) n = MOST_BLOCKS;
    if (n > tiles) n = tiles;
    return n < 1 ? 1 : n;
}

/* First row of block b of n_block. */
static inline ptrdiff_t block_start(ptrdiff_t n_samples, ptrdiff_t n_block, ptrdiff_t b) {
    ptrdiff_t row = n_tiles(n_samples) * b / n_block * TILE_ROWS;
    return row < n_samples ? row : n_samples;
}

/* In block order, not in the order in which threads arrive. */
static inline void add_blocks(const double *block_sums, ptrdiff_t n_block, ptrdiff_t size, double *sums) {
    for (ptrdiff_t b = 0; b < n_block; b++)
        for (ptrdiff_t i = 0; i < size; i++) sums[i] += block_sums[b * size + i];
}

#endif
