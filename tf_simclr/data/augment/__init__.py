"""From an image to its views (SimCLR paper, appendix A; official code).

What computes each part, and where:

| part        | host, up to 32 px        | host, above 32 px          | device, for a batch        |
|-------------|--------------------------|----------------------------|----------------------------|
| boxes       | crop.random_crop_box     | crop.random_crop_box       | crop.random_crop_boxes (1) |
| crop/resize | crop.crop_and_resize     | crop.crop_and_resize       | on_device.crop_and_resize  |
| flip        | crop.random_flip         | views._finish_compiled (2) | on_device.flip             |
| color       | distortion.distort_image | distortion.distort_planes  | on_device.color_distortion |
| blur        | -                        | -                          | blur.random_blur           |

(1) Drawn on the host for a group of images at a time. The device crops small images of one size.
    Crops of other images are made on the host (crop.crop_and_resize_uint8), and the device
    continues with the flip.
(2) Compiled by XLA, together with the color distortion.

"Host" is --augment_on=host; the host's views are blurred on the device, too. The operations of
color distortion are in color.OPERATIONS, each with its amounts and both ways to compute it:
distort_image uses TensorFlow's kernels, the other two use planes.
"""
