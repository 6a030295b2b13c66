/* colour_map.c - colours for numbers (from low to high) and for classes (as different as possible).
 *
 * viridis and turbo are given by 16 of their 256 colours, equally spaced, and straight lines between them: at most 7 of 255 away
 * from the originals.
 *
 * Class colours: going round the colour circle by the golden angle puts every new hue into the largest gap that is left. That is
 * done on three circles of different lightness and chroma in the OKLab space, where equal steps look equal.
 */
#include "image/colour_map.h"

#include <math.h>

enum { STOPS = 16 };

static const uint8_t stops[][STOPS][3] = {
    [DLA_COLOUR_MAP_VIRIDIS] = {{68, 1, 84},
                                {72, 26, 108},
                                {71, 47, 125},
                                {65, 68, 135},
                                {57, 86, 140},
                                {49, 104, 142},
                                {42, 120, 142},
                                {35, 136, 142},
                                {31, 152, 139},
                                {34, 168, 132},
                                {53, 183, 121},
                                {84, 197, 104},
                                {122, 209, 81},
                                {165, 219, 54},
                                {210, 226, 27},
                                {253, 231, 37}},
    [DLA_COLOUR_MAP_TURBO] = {{48, 18, 59},
                              {65, 67, 167},
                              {71, 113, 233},
                              {62, 155, 254},
                              {34, 197, 226},
                              {26, 228, 182},
                              {70, 248, 132},
                              {136, 255, 78},
                              {185, 246, 53},
                              {225, 221, 55},
                              {250, 186, 57},
                              {253, 141, 39},
                              {240, 91, 18},
                              {214, 53, 6},
                              {175, 24, 1},
                              {122, 4, 3}},
};

void colour_of_value(dla_colour_map map, float value, uint8_t rgb[3])
{
    float position = value > 0.0f ? (value < 1.0f ? value : 1.0f) * (STOPS - 1) : 0.0f;
    int stop = position < STOPS - 1 ? (int)position : STOPS - 2;
    float part = position - (float)stop;

    for (int c = 0; c < 3; c++) {
        float from = stops[map][stop][c], to = stops[map][stop + 1][c];

        rgb[c] = (uint8_t)(from + (to - from) * part + 0.5f);
    }
}

/* Linear light 0 .. 1 as an sRGB byte. */
static uint8_t encode_srgb(double light)
{
    light = fmin(fmax(light, 0.0), 1.0);
    double value = light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1 / 2.4) - 0.055;
    return (uint8_t)lround(255.0 * value);
}

/* OKLab in polar form to sRGB (B. Ottosson, "A perceptual color space for image processing", 2020: the matrices are its). */
static void oklch_to_srgb(double lightness, double chroma, double hue, uint8_t rgb[3])
{
    double a = chroma * cos(hue), b = chroma * sin(hue);
    double l = pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3), m = pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3),
           s = pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);

    rgb[0] = encode_srgb(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s);
    rgb[1] = encode_srgb(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s);
    rgb[2] = encode_srgb(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s);
}

void dla_class_palette(uint8_t palette[256][3])
{
    const double golden_angle = 2.39996322972865332; /* pi (3 - sqrt 5) */
    const double third_of_a_turn = 2.09439510239319549;
    static const struct {
        double lightness, chroma;
    } tones[3] = {{0.70, 0.15}, {0.55, 0.16}, {0.84, 0.11}};

    for (int i = 0; i < 255; i++) {
        int circle = i % 3, step = i / 3;

        oklch_to_srgb(tones[circle].lightness, tones[circle].chroma, 0.5 + step * golden_angle + circle * third_of_a_turn, palette[i]);
    }
    palette[255][0] = palette[255][1] = palette[255][2] = 0; /* the label that data sets give to what does not count */
}
