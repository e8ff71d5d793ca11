"""A further head of the proposal network: at each centre, how likely a common cell, no cell, or anything else is there.

The features that locate a cell tell most of what it is, so the head costs a few convolutions for the whole image instead of a
classification of each cell. As in a cascade of classifiers (Viola and Jones 2001, CVPR, section 4), the cheap first stage only has to rule
out what is common; all else goes on to the next. The head adds to a trained network and leaves its candidates as they are.
"""

import keras

from malaria_cells.models.layers import conv_norm_relu

PLACES = "places"  # layer of the network whose output the candidates are decoded from
WIDTH = 64  # channels of the head at an eighth of the input's resolution
# Channels of the head's own look at the pixels: parasites are a few pixels large, and finding cells does not need such details.
DETAILS = (16, 32)


def with_screening(network: keras.Model) -> keras.Model:
    """Add a new screening head to a network of learned proposals; only the head's weights can be trained.

    Args:
        network: as `centre_network.build` returns it, or with a head, which is replaced.

    Returns:
        A model from pixels (b, H, W, 3) to (b, H/4, W/4, 8): the network's five values, and the probabilities of a cell of the common
        class, of background, and of any other class.
    """
    network = without_screening(network)
    network.trainable = False

    def features(name: str) -> keras.KerasTensor:
        return network.get_layer(name).output

    detail = conv_norm_relu(features("rescale"), DETAILS[0], "screening_stem", strides=2)
    detail = keras.layers.Concatenate(name="screening_at_2")([detail, features("stem_relu")])
    detail = conv_norm_relu(detail, DETAILS[1], "screening_detail", strides=2)
    darkest = keras.layers.MaxPooling2D(3, strides=1, padding="same", name="screening_peak")(detail)
    x = keras.layers.Concatenate(name="screening_at_4")([features("up4_mix_relu"), detail, darkest])
    x = conv_norm_relu(x, WIDTH, "screening_down", strides=2)
    x = keras.layers.Concatenate(name="screening_at_8")([x, features("up8_mix_relu")])
    x = conv_norm_relu(x, WIDTH, "screening_narrow", kernel=1)
    for number in (1, 2):
        x = keras.layers.Add(name=f"screening_add{number}")([x, conv_norm_relu(x, WIDTH, f"screening_block{number}")])
    x = keras.layers.Conv2D(3, 1, activation="softmax", name="screening")(x)
    x = keras.layers.UpSampling2D(interpolation="nearest", name="screening_up")(x)
    return keras.Model(network.inputs[0], keras.layers.Concatenate(name="screened_places")([network.outputs[0], x]), name=network.name)


def without_screening(network: keras.Model) -> keras.Model:
    """The network of learned proposals alone, with the same weights; a network without a screening head is returned as it is."""
    if network.layers[-1].name == PLACES:
        return network
    return keras.Model(network.inputs[0], network.get_layer(PLACES).output, name=network.name)
