/* Story: what a table of constant pointers costs, and what the linker's -z options change about it.
 *
 * 20000 constant pointers are 160000 bytes (156.25 KiB). In a position-independent program the loader has to add the load
 * address to every one of them before main, which makes private copies of all their pages: at the first checkpoint 156 to
 * 160 KiB are anonymous memory although the program has written nothing. The instructions for the loader (one relocation
 * of 24 bytes per pointer, 469 KiB) are mapped with the headers.
 *
 * The same source is built in three ways (see memcheck.toml); only the program's ELF file differs:
 *   -z norelro      the table stays writable: it is counted with exe.data, and the hardening line says "no relro"
 *   -z relro        exe.relro holds it, read-only after relocation; the table of functions (.got.plt) stays writable for
 *                   lazy binding: "relro partial". One more region, and up to one page lost to alignment
 *   -z relro -z now as before, .got.plt is read-only too: "relro full"
 *
 * What to look at: the line `hardening`, and the rows exe.relro and exe.data, which exchange the table.
 */
#include <stddef.h>
#include <unistd.h>

#include "memcheck.h"

static const char text[] = "pointers";

#define TEN(x) x, x, x, x, x, x, x, x, x, x
#define HUNDRED(x) TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x), TEN(x)
#define THOUSAND(x) \
    HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x), HUNDRED(x)
#define TEN_THOUSAND(x) TEN(THOUSAND(x))

/* Not static, and read through a volatile index: the compiler can neither drop the table nor fold it. */
extern const char *const table[20000];
const char *const table[20000] = {TEN_THOUSAND(text), TEN_THOUSAND(text)};

int main(void) {
    MEMCHECK_CHECKPOINT(start);
    size_t right = 0;
    for (volatile size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        right += *table[i] == 'p';
    if (right != 20000)
        return 1;
    /* With lazy binding this first call of an outside function writes its address into .got.plt. */
    if (write(STDOUT_FILENO, "20000 pointers\n", 15) != 15)
        return 1;
    MEMCHECK_CHECKPOINT(used);
    return 0;
}
