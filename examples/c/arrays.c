/* An array of ROWS rows of COLUMNS bytes: each row a malloc of its own, or all of them one block.
 *
 *   arrays rows | block
 *
 * Checkpoints: start, filled, thinned (every second row freed; the block cannot give back half), dropped (everything freed).
 *
 * Ground truth, glibc on 64-bit: a chunk is a request and 8 bytes of header, rounded up to 16. A row of 100 bytes is a chunk of 112,
 * so 1000 rows are 112000 bytes in 1000 chunks; the block is 100000 bytes in one chunk of 100016. The table of row pointers is the
 * same in both: 8000 bytes, a chunk of 8016. Freeing every second row leaves 500 holes of 112 bytes: no request above 104 bytes fits
 * one, and none goes back to the system. */
#include <stdlib.h>
#include <string.h>

#include "memcheck.h"

enum { ROWS = 1000, COLUMNS = 100 };

int main(int argc, char **argv) {
    int block = argc > 1 && strcmp(argv[1], "block") == 0;
    /* The first call opens the heap, so that the changes from here on are the array's alone. */
    free(malloc(1));
    MEMCHECK_CHECKPOINT(start);

    char **rows = malloc(ROWS * sizeof *rows);
    char *all = block ? malloc(ROWS * COLUMNS) : NULL;
    for (int i = 0; rows && i < ROWS; i++) {
        rows[i] = block ? all + i * COLUMNS : malloc(COLUMNS);
        memset(rows[i], i, COLUMNS);
    }
    MEMCHECK_CHECKPOINT(filled);

    for (int i = 0; rows && !block && i < ROWS; i += 2)
        free(rows[i]);
    MEMCHECK_CHECKPOINT(thinned);

    for (int i = 1; rows && !block && i < ROWS; i += 2)
        free(rows[i]);
    free(all);
    free(rows);
    MEMCHECK_CHECKPOINT(dropped);
    return 0;
}
