/* How few-bit weights are kept. A weight of N outputs and K inputs is cut into tiles of 16 outputs, and each tile into
 * groups of 32 inputs. A group is, by the kind of its tile:
 *   four bits: 16 scales, 16 centres (float16), 256 bytes of numbers 0..15; weight = centre + scale * (number - 8)
 *   six bits:  16 scales of the first 16 inputs, 16 of the others (float16), 256 bytes of the low four bits of numbers
 *              0..63, 128 bytes of the high two; weight = scale * (number - 32)
 * Low bits are words of 16 bits, [4 parts of 8 inputs][16 outputs][2]: the four numbers of a word are those of every
 * second input. High bits are words as well, [2 parts of 16 inputs][16 outputs][2], with eight numbers each.
 */
#ifndef FEW_BIT_LAYOUT_H
#define FEW_BIT_LAYOUT_H
#include "native.h"

enum { FOUR = 4, SIX = 6 };
enum { WIDTH = 16, GROUP = 32, FOUR_BYTES = 320, SIX_BYTES = 448 };
#endif
